//! Any text as a manifest: objects, or errors that have a place in it and are one printable line.
#![no_main]

use cofferdam_manifest::{Decoded, MAX_ERRORS, MAX_REPLICAS, MAX_WARNINGS, ObjectKind, decode, pods_of};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| match decode("f", text) {
    Ok(Decoded { objects, warnings }) => {
        for object in objects {
            if let ObjectKind::Deployment(deployment) = object.kind {
                assert!(pods_of(&deployment).len() <= MAX_REPLICAS as usize);
            }
        }
        assert!(warnings.len() <= MAX_WARNINGS + 1);
        for warning in warnings {
            assert!(!warning.text.is_empty());
            // What is shown as today's form is read without a warning.
            if let Some(today) = warning.today {
                let again = decode("f", &today).unwrap_or_else(|e| panic!("{e:?}\n{today}"));
                assert!(again.warnings.iter().all(|w| w.today.is_none()), "{today}");
            }
        }
    }
    Err(errors) => {
        assert!(!errors.is_empty() && errors.len() <= MAX_ERRORS + 1);
        let lines = text.split(['\n', '\r']).count() + 1;
        for error in errors {
            assert!(error.place.line <= lines, "{error}");
            let told = error.to_string();
            assert!(!told.chars().any(char::is_control), "{told:?}");
        }
    }
});
