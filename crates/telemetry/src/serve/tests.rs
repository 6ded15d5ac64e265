#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use crate::tests::{LONG, exchange, get, listening, start, until};
use crate::{Error, Level, Log, LogFormat, Options, Telemetry};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

#[test]
fn content_types_and_refusals() {
    let (telemetry, _) = listening();
    let address = telemetry.address().unwrap();
    let ask = |head: &str| exchange(address, format!("{head}\r\n\r\n").as_bytes());
    let plain = ask("GET /metrics HTTP/1.1");
    assert!(
        plain.starts_with("HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\n"),
        "{plain}"
    );
    let open = ask("GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text;version=1.0.0");
    assert!(open.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"));
    assert!(open.ends_with("# EOF\n"));
    let head = ask("HEAD /metrics HTTP/1.1");
    assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"));
    assert!(ask("GET / HTTP/1.1").starts_with("HTTP/1.1 404"));
    assert!(ask("GET /metrics/../healthz HTTP/1.1").starts_with("HTTP/1.1 404"));
    let refused = ask("POST /metrics HTTP/1.1");
    assert!(refused.starts_with("HTTP/1.1 405") && refused.contains("allow: GET, HEAD\r\n"));
    assert!(ask("nonsense").starts_with("HTTP/1.1 400"));
    let long = format!("GET /metrics HTTP/1.1\r\nx: {}", "y".repeat(8300));
    assert!(exchange(address, long.as_bytes()).starts_with("HTTP/1.1 431"));
}

#[test]
fn health_tells_each_failing_check_in_a_line() {
    let (telemetry, _) = listening();
    assert_eq!(get(&telemetry, "/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(get(&telemetry, "/readyz"), (503, "start: the daemon is not ready yet\n".to_owned()));
    telemetry.set_ready(true);
    assert_eq!(get(&telemetry, "/readyz"), (200, "ok\n".to_owned()));
    telemetry.health_check("store", LONG, || Ok(()));
    telemetry.health_check("disk", LONG, || Err("the disk is full;\nremove images".to_owned()));
    telemetry.ready_check("handlers", LONG, || Err("no handler is proved".to_owned()));
    assert_eq!(
        get(&telemetry, "/healthz"),
        (503, "disk: the disk is full; remove images\n".to_owned())
    );
    let both = "disk: the disk is full; remove images\nhandlers: no handler is proved\n";
    assert_eq!(get(&telemetry, "/readyz"), (503, both.to_owned()));
}

#[test]
fn a_check_that_hangs_fails_and_is_not_piled_up() {
    let (telemetry, _) = listening();
    let (runs, counted) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (of_hanging, of_good) = (runs.clone(), counted.clone());
    telemetry.health_check("engine", Duration::from_millis(50), move || {
        of_hanging.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(LONG * 10);
        Ok(())
    });
    telemetry.health_check("good", LONG, move || {
        of_good.fetch_add(1, Ordering::SeqCst);
        Ok(())
    });
    for _ in 0..5 {
        let (status, body) = get(&telemetry, "/healthz");
        assert_eq!(status, 503);
        assert!(
            body.starts_with("engine: it has not answered for ") && body.lines().count() == 1,
            "{body}"
        );
    }
    assert_eq!((runs.load(Ordering::SeqCst), counted.load(Ordering::SeqCst)), (1, 5));
}

#[test]
fn a_check_that_panics_fails_and_is_run_again() {
    let (telemetry, _) = listening();
    let first = AtomicUsize::new(0);
    telemetry.health_check("odd", LONG, move || {
        assert!(first.fetch_add(1, Ordering::SeqCst) > 0, "the first time");
        Ok(())
    });
    assert_eq!(get(&telemetry, "/healthz"), (503, "odd: it could not be run\n".to_owned()));
    assert_eq!(get(&telemetry, "/healthz"), (200, "ok\n".to_owned()));
}

#[test]
fn slow_clients_do_not_keep_others_out() {
    let (telemetry, _) = listening();
    let address = telemetry.address().unwrap();
    let mut slow: Vec<TcpStream> = (0..100)
        .map(|_| {
            let mut stream = TcpStream::connect(address).unwrap();
            let _ = stream.write_all(b"GET /metrics HT");
            stream
        })
        .collect();
    until("all are accepted", || get(&telemetry, "/healthz").0 == 200);
    slow[0].set_read_timeout(Some(LONG)).unwrap();
    assert!(matches!(slow[0].read(&mut [0; 16]), Ok(0) | Err(_)), "the oldest is cut");
    let text = get(&telemetry, "/metrics").1;
    let refused = text
        .lines()
        .find_map(|line| line.strip_prefix("cofferdam_telemetry_connections_refused_total "))
        .unwrap();
    assert!(refused.parse::<u32>().unwrap() >= 92, "{refused}");
}

#[test]
fn a_client_that_sends_nothing_is_told_so() {
    let (telemetry, _) = listening();
    assert!(exchange(telemetry.address().unwrap(), b"GET /metrics").starts_with("HTTP/1.1 408"));
}

#[test]
fn an_address_in_use_is_an_error_and_a_shutdown_frees_it() {
    let (telemetry, _) = listening();
    let address = telemetry.address().unwrap();
    let log = Log::to(LogFormat::Text, Level::Error, Box::new(std::io::sink()));
    let options = Options {
        listen: Some(address),
        ..Options::default()
    };
    let error = Telemetry::start_with(options.clone(), log.clone(), &|_| None).unwrap_err();
    assert!(
        matches!(error, Error::Listen { .. }) && error.to_string().contains(&address.to_string()),
        "{error}"
    );
    telemetry.shutdown(LONG);
    until("the address is free", || {
        Telemetry::start_with(options.clone(), log.clone(), &|_| None).is_ok()
    });
    assert_eq!(start(Options::default(), &[]).0.address(), None);
}
