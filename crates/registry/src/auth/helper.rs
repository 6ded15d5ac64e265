//! Credential helpers: programs named `docker-credential-X` that keep credentials for docker
//! (docker/docker-credential-helpers).

use crate::auth::credential::{Credential, Secret};
use crate::error::{Error, Result, clean};
use crate::hosts::DOCKER_HUB;
use serde::Deserialize;
use std::io::{Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// More output is no credential.
const MAX_OUTPUT: u64 = 64 << 10;
/// How Docker Hub is called by those who keep credentials.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

/// Asks a helper for the credentials of a host; `None` where it has none.
///
/// # Errors
/// It is not there, fails, takes longer than `timeout` (and is killed then), or says what cannot be
/// understood.
pub(crate) fn ask(helper: &str, from: &str, host: &str, timeout: Duration) -> Result<Option<Credential>> {
    ask_program(&format!("docker-credential-{helper}"), helper, from, host, timeout)
}

fn ask_program(program: &str, helper: &str, from: &str, host: &str, timeout: Duration) -> Result<Option<Credential>> {
    let failed = |reason: String| Error::Helper {
        helper: helper.to_owned(),
        from: from.to_owned(),
        host: host.to_owned(),
        reason,
    };
    let child = Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn();
    let child = child.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => failed(format!("there is no {program} in PATH: install it, or take it out of that file")),
        _ => failed(error.to_string()),
    })?;
    let mut running = Running { child };
    let (output, success) = running
        .talk(if host == DOCKER_HUB { DOCKER_HUB_KEY } else { host }, timeout)
        .map_err(failed)?;
    if !success {
        let words = clean(&String::from_utf8_lossy(&output), 200);
        if words.contains("credentials not found") {
            return Ok(None);
        }
        return Err(failed(if words.is_empty() {
            "it failed and said nothing".to_owned()
        } else {
            format!("it said: {words}")
        }));
    }
    let answer: Answer =
        serde_json::from_slice(&output).map_err(|_| failed("what it printed is not the JSON of a credential".to_owned()))?;
    if answer.secret.is_empty() {
        return Ok(None);
    }
    let secret = match answer.username.as_str() {
        "<token>" => Secret::Identity { token: answer.secret },
        _ => Secret::Password {
            username: answer.username,
            password: answer.secret,
        },
    };
    Ok(Some(Credential {
        key: host.to_owned(),
        secret,
        from: format!("docker-credential-{helper} ({from})"),
    }))
}

/// A helper with all that it started; dropping it ends them.
struct Running {
    child: Child,
}

impl Running {
    /// Says what it is asked for; gives what it printed, and whether it succeeded.
    fn talk(&mut self, question: &str, timeout: Duration) -> std::result::Result<(Vec<u8>, bool), String> {
        let late = || format!("it did not answer within {} s", timeout.as_secs_f64());
        let start = Instant::now();
        let (Some(stdin), Some(stdout)) = (self.child.stdin.take(), self.child.stdout.take()) else {
            return Err("it has no pipes".to_owned());
        };
        let (sender, receiver) = mpsc::channel();
        let question = question.to_owned();
        std::thread::Builder::new()
            .name("credential-helper".to_owned())
            .spawn(move || sender.send(exchange(stdin, stdout, &question)))
            .map_err(|error| error.to_string())?;
        let output = receiver
            .recv_timeout(timeout)
            .map_err(|_| late())?
            .map_err(|error| error.to_string())?;
        if output.len() as u64 > MAX_OUTPUT {
            return Err(format!("it printed more than {MAX_OUTPUT} bytes"));
        }
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Ok((output, status.success())),
                Ok(None) if start.elapsed() >= timeout => return Err(late()),
                Ok(None) => std::thread::sleep(Duration::from_millis(5)),
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Once it is waited for, its id may be another's.
        if let Ok(None) = self.child.try_wait() {
            let group = rustix::process::Pid::from_child(&self.child);
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

fn exchange(mut stdin: ChildStdin, stdout: ChildStdout, question: &str) -> std::io::Result<Vec<u8>> {
    // One that reads nothing may be right all the same.
    let _ = stdin.write_all(question.as_bytes());
    drop(stdin);
    let mut output = Vec::new();
    stdout.take(MAX_OUTPUT + 1).read_to_end(&mut output)?;
    Ok(output)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Asks a helper that is this script. Another process writes it: a program that this one has open
    /// while another thread starts a child could not be run.
    fn ask_script(script: &str, timeout: Duration) -> Result<Option<Credential>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("helper");
        let make = "printf '#!/bin/sh\n%s\n' \"$2\" >\"$1\" && chmod 755 \"$1\"";
        let made = Command::new("sh").args(["-c", make, "sh"]).arg(&path).arg(script).status().unwrap();
        assert!(made.success());
        ask_program(path.to_str().unwrap(), "test", "config.json", DOCKER_HUB, timeout)
    }

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn a_helper_is_asked_for_the_name_that_it_knows() {
        let script =
            r#"[ "$1" = get ] && read -r host || [ -n "$host" ] && printf '{"ServerURL":"x","Username":"u","Secret":"%s"}' "$host""#;
        let got = ask_script(script, LONG).unwrap().unwrap();
        assert!(
            got.secret
                == Secret::Password {
                    username: "u".to_owned(),
                    password: DOCKER_HUB_KEY.to_owned()
                }
        );
        assert_eq!(got.described(), "user u of docker-credential-test (config.json)");
        assert_eq!(got.registry(), DOCKER_HUB);
    }

    #[test]
    fn tokens_and_absences_are_known() {
        let got = ask_script(r#"echo '{"Username":"<token>","Secret":"t"}'"#, LONG).unwrap().unwrap();
        assert!(got.secret == Secret::Identity { token: "t".to_owned() });
        assert!(
            ask_script("echo credentials not found in native keychain; exit 1", LONG)
                .unwrap()
                .is_none()
        );
        assert!(ask_script("echo '{}'", LONG).unwrap().is_none());
    }

    #[test]
    fn what_goes_wrong_is_said_and_never_shows_output_of_success() {
        for (script, timeout, words) in [
            ("echo 'vault is sealed'; exit 3", LONG, "it said: vault is sealed"),
            ("exit 3", LONG, "said nothing"),
            ("echo secret", LONG, "not the JSON"),
            ("yes secret", LONG, "more than 65536 bytes"),
            ("sleep 300", Duration::from_millis(50), "within 0.05 s"),
            // What it started keeps its output open.
            ("sleep 300 & echo '{}'", Duration::from_millis(50), "within 0.05 s"),
            ("exec >&-; sleep 300", Duration::from_millis(50), "within 0.05 s"),
        ] {
            let error = ask_script(script, timeout).unwrap_err().to_string();
            assert!(
                error.contains(words) && error.contains("docker-credential-test, which config.json names"),
                "{error}"
            );
            assert!(!error.contains("secret"), "{error}");
        }
        let error = ask("none-such", "config.json", "q", LONG).unwrap_err().to_string();
        assert!(error.contains("no docker-credential-none-such in PATH"), "{error}");
    }
}
