//! Signals: CRI counts them by name, Linux by its own numbers.

use super::{Result, Wrong};
use cofferdam_cri_api::v1::Signal;

/// Linux numbers (signal(7), x86 and ARM) of CRI's signals 1 to 34, in CRI's order, which is that of names.
const NUMBERS: [i32; 34] = [
    6, 14, 7, 17, 17, 18, 8, 1, 4, 2, 29, 6, 9, 13, 29, 27, 30, 3, 11, 16, 19, 31, 15, 5, 20, 21, 22, 23, 10, 12, 26, 28, 24, 25,
];
/// The first real-time signal that programs may use: the C library keeps two below.
const RTMIN: i32 = 34;
/// CRI's value of the last before the real-time signals.
const LAST_PLAIN: i32 = 34;

/// The number of a signal; `None` for the image's own.
pub(crate) fn number(field: &str, signal: i32) -> Result<Option<i32>> {
    match signal {
        0 => Ok(None),
        1..=LAST_PLAIN => Ok(NUMBERS.get(signal as usize - 1).copied()),
        35..=65 => Ok(Some(RTMIN + signal - LAST_PLAIN - 1)),
        _ => Err(Wrong::new(field, format_args!("there is no signal {signal}"))),
    }
}

/// The signal of a number.
pub(crate) fn signal(number: i32) -> Signal {
    let value = match number {
        RTMIN..=64 => number - RTMIN + LAST_PLAIN + 1,
        // Of two names of a number the usual one: SIGCHLD comes before SIGCLD, and so on.
        _ => NUMBERS.iter().position(|n| *n == number).map_or(0, |i| i as i32 + 1),
    };
    Signal::try_from(value).unwrap_or(Signal::RuntimeDefault)
}

/// The number in an image's `StopSignal`, as `SIGTERM`, `TERM`, `SIGRTMIN+3` or a number; SIGTERM where it says nothing.
pub(crate) fn of_image(text: &str) -> i32 {
    const SIGTERM: i32 = 15;
    if let Ok(number) = text.parse() {
        return number;
    }
    let name = text.trim_start_matches("SIG").replace('+', "PLUS").replace('-', "MINUS");
    let found = Signal::from_str_name(&format!("SIGNAL_SIG{name}"));
    found.and_then(|s| number("", s.into()).ok().flatten()).unwrap_or(SIGTERM)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn signals_have_their_linux_numbers() {
        for (signal, number) in [
            (Signal::Sigabrt, 6),
            (Signal::Sigchld, 17),
            (Signal::Sighup, 1),
            (Signal::Sigkill, 9),
            (Signal::Sigquit, 3),
            (Signal::Sigterm, 15),
            (Signal::Sigusr1, 10),
            (Signal::Sigusr2, 12),
            (Signal::Sigwinch, 28),
            (Signal::Sigxcpu, 24),
            (Signal::Sigxfsz, 25),
            (Signal::Sigrtmin, 34),
            (Signal::Sigrtminplus3, 37),
            (Signal::Sigrtminplus15, 49),
            (Signal::Sigrtmaxminus14, 50),
            (Signal::Sigrtmax, 64),
        ] {
            assert_eq!(super::number("f", signal.into()).unwrap(), Some(number), "{signal:?}");
            assert_eq!(super::signal(number), signal);
        }
        assert_eq!(super::number("f", 0), Ok(None));
        assert!(super::number("stop_signal", 66).unwrap_err().0.starts_with("stop_signal: "));
        assert!(super::number("stop_signal", -1).is_err());
    }

    #[test]
    fn an_image_names_its_signal() {
        for (text, number) in [
            ("", 15),
            ("SIGQUIT", 3),
            ("QUIT", 3),
            ("9", 9),
            ("SIGRTMIN+3", 37),
            ("SIGRTMAX-1", 63),
        ] {
            assert_eq!(of_image(text), number, "{text}");
        }
    }
}
