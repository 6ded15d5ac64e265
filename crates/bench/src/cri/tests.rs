//! The driver beside a runtime that runs nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "fake.rs"]
mod fake;

use super::*;
use fake::Fake;
use std::io::Write;
use std::path::Path;

fn options(sockets: &[&Path]) -> Options {
    Options {
        sockets: sockets.iter().map(|s| s.to_path_buf()).collect(),
        handlers: vec!["crun".into()],
        image: "image".into(),
        command: vec!["sleep".into(), "9".into()],
        pull: true,
        rounds: 2,
        at_once: 2,
        density: 3,
        rest: Duration::ZERO,
        soak: None,
    }
}

async fn drive(options: &Options, stop: &Arc<AtomicBool>) -> Result<Report, Error> {
    whole(options, &mut [], &|_| (), stop).await
}

fn empty(fake: &Fake) -> bool {
    let state = fake.0.lock().unwrap();
    state.pods.is_empty() && state.containers.is_empty()
}

#[tokio::test]
async fn a_run_measures_every_runtime_and_leaves_nothing() {
    let (one, socket, _dir) = Fake::serve();
    let (two, other, _other) = Fake::serve();
    let mut once = 0;
    let count = || {
        once += 1;
        Ok(7.0)
    };
    let mut beside = [Reference {
        name: "bare".into(),
        handler: "crun".into(),
        once: Box::new(count),
    }];
    let report = whole(&options(&[&socket, &other]), &mut beside, &|_| (), &Arc::default())
        .await
        .unwrap();
    drop(beside);
    assert_eq!(once, 2);
    let names: Vec<_> = report.runtimes.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(names, ["fake 1", "fake 1 #2"]);
    let handler = &report.handlers[0];
    for key in [
        "up_p50",
        "up_p95",
        "exec_p50",
        "stop_p50",
        "remove_p50",
        "rate",
        "crowd_p95",
        "dense_all",
        "dense_up",
        "dense_exec",
    ] {
        let row = handler.row(key).unwrap_or_else(|| panic!("no row {key}"));
        assert!(row.ratio(1).is_some_and(|r| r > 0.0), "{row:?}");
    }
    assert_eq!(handler.stages[1], ("fake 1 #2".into(), vec![("sandbox network".into(), 1.5)]));
    assert_eq!(handler.references, [("bare".into(), 7.0, 7.0)]);
    assert!(empty(&one) && empty(&two));
}

#[tokio::test]
async fn a_verb_that_fails_ends_the_run_and_leaves_nothing() {
    let verbs = [
        "RunPodSandbox",
        "CreateContainer",
        "StartContainer",
        "PodSandboxStatus",
        "ContainerStatus",
        "ExecSync",
        "StopContainer",
        "StopPodSandbox",
        "RemoveContainer",
        "RemovePodSandbox",
    ];
    // The first pod, and one of many at once.
    for (verb, call) in verbs.into_iter().flat_map(|v| [(v, 1), (v, 4)]) {
        let (fake, socket, _dir) = Fake::serve();
        fake.0.lock().unwrap().failing = Some((verb, call, 1));
        let error = drive(&options(&[&socket]), &Arc::default()).await;
        if let Err(error) = &error {
            assert_eq!(error.to_string(), format!("{verb} on {} failed: as told", socket.display()));
        }
        // Statuses are asked in the rounds alone, of which there are fewer.
        assert!(error.is_err() || (call == 4 && verb.ends_with("Status")), "{verb} {call}");
        assert!(empty(&fake), "{verb} {call}: {:?}", fake.0.lock().unwrap());
    }
}

#[tokio::test]
async fn what_was_left_is_removed_and_what_others_made_is_not() {
    let (fake, socket, _dir) = Fake::serve();
    let label = |name: &str| [(name.to_owned(), "true".to_owned())].into();
    fake.0.lock().unwrap().pods = [("left".into(), label("cofferdam-bench")), ("web".into(), label("app"))].into();
    drive(&options(&[&socket]), &Arc::default()).await.unwrap();
    assert_eq!(fake.0.lock().unwrap().pods.keys().collect::<Vec<_>>(), ["web"]);
}

#[tokio::test]
async fn what_cannot_be_removed_is_told() {
    let (fake, socket, _dir) = Fake::serve();
    fake.0.lock().unwrap().pods = [("left".into(), [("cofferdam-bench".to_owned(), "true".to_owned())].into())].into();
    fake.0.lock().unwrap().failing = Some(("RemovePodSandbox", 1, 100));
    let error = drive(&options(&[&socket]), &Arc::default()).await.unwrap_err().to_string();
    assert!(error.starts_with("1 pods of the bench are left on "), "{error}");
    assert!(error.contains("as told"), "{error}");
}

#[tokio::test]
async fn an_interrupted_run_leaves_nothing() {
    for verb in ["RunPodSandbox", "StartContainer", "ExecSync", "StopPodSandbox"] {
        let (fake, socket, _dir) = Fake::serve();
        let stop = Arc::new(AtomicBool::new(false));
        fake.0.lock().unwrap().stopping = Some((verb, stop.clone()));
        let error = drive(&options(&[&socket]), &stop).await.unwrap_err();
        assert!(matches!(error, Error::Interrupted), "{verb}: {error}");
        assert!(empty(&fake), "{verb}");
    }
}

#[tokio::test]
async fn a_missing_image_is_pulled_where_that_is_wanted() {
    let (fake, socket, _dir) = Fake::serve();
    let mut options = options(&[&socket]);
    options.pull = false;
    let error = drive(&options, &Arc::default()).await.unwrap_err().to_string();
    let wanted = format!(
        "{} has no image image: fetch it with --pull, or name another with --image",
        socket.display()
    );
    assert_eq!(error, wanted);
    options.pull = true;
    options.density = 0;
    let report = drive(&options, &Arc::default()).await.unwrap();
    assert!(fake.0.lock().unwrap().images.contains("image"));
    assert!(report.handlers[0].row("dense_all").is_none());
}

#[tokio::test]
async fn a_soak_looks_before_and_after() {
    let (fake, socket, _dir) = Fake::serve();
    let mut options = options(&[&socket]);
    options.soak = Some(5);
    let report = drive(&options, &Arc::default()).await.unwrap();
    let rows = &report.handlers[0].rows;
    assert_eq!(rows.len(), 9);
    assert_eq!(rows[8].what, "its threads, after (5 pods)");
    assert!(rows.iter().all(|row| row.values.len() == 1 && row.values[0].is_some()), "{rows:?}");
    assert!(empty(&fake));
}

#[tokio::test]
async fn a_socket_that_is_none_is_told_in_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::write(at("file"), "").unwrap();
    let listener = std::os::unix::net::UnixListener::bind(at("web")).unwrap();
    std::thread::spawn(move || {
        while let Ok((mut client, _)) = listener.accept() {
            let _ = client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    for (name, wanted) in [
        ("absent", "there is no socket PATH: start the runtime"),
        ("file", "nobody listens on PATH: start"),
        ("web", "PATH does not speak CRI v1 ("),
    ] {
        let error = drive(&options(&[&at(name)]), &Arc::default()).await.unwrap_err().to_string();
        assert!(
            error.starts_with(&wanted.replace("PATH", &at(name).display().to_string())),
            "{error}"
        );
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn numbers_that_measure_nothing_are_refused() {
    let none = Path::new("/none");
    for (change, wanted) in [
        (
            Box::new(|o: &mut Options| o.sockets.clear()) as Box<dyn Fn(&mut Options)>,
            "name at least one CRI socket with --cri",
        ),
        (Box::new(|o| o.rounds = 0), "--rounds must be at least 1"),
        (Box::new(|o| o.at_once = 0), "--at-once must be at least 1"),
        (Box::new(|o| o.soak = Some(0)), "--soak must be at least 1"),
    ] {
        let mut options = options(&[none]);
        change(&mut options);
        assert_eq!(run(&options, &mut [], &|_| ()).unwrap_err().to_string(), wanted);
    }
}
