#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use proptest::prelude::*;

fn q(text: &str) -> Quantity {
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// Text, printed form, whole units, thousandths: what k8s.io/apimachinery v0.34.4 gives.
#[test]
fn reads_and_prints_as_upstream_does() {
    let rows: &[(&str, &str, i64, i64)] = &[
        // nothing, however it is written
        ("0", "0", 0, 0),
        ("0m", "0", 0, 0),
        ("0Ki", "0", 0, 0),
        ("-0", "0", 0, 0),
        (".", "0", 0, 0),
        ("+", "0", 0, 0),
        ("m", "0", 0, 0),
        ("Ki", "0", 0, 0),
        // decimal suffixes
        ("1", "1", 1, 1000),
        ("100m", "100m", 1, 100),
        ("1000m", "1", 1, 1000),
        ("1500m", "1500m", 2, 1500),
        ("0.1", "100m", 1, 100),
        (".5", "500m", 1, 500),
        ("1.", "1.", 1, 1000),
        ("1.5", "1500m", 2, 1500),
        ("2.5m", "2500u", 1, 3),
        ("1u", "1u", 1, 1),
        ("1n", "1n", 1, 1),
        ("1k", "1k", 1000, 1_000_000),
        ("1000", "1k", 1000, 1_000_000),
        ("1000k", "1M", 1_000_000, 1_000_000_000),
        ("100000", "100k", 100_000, 100_000_000),
        ("1024", "1024", 1024, 1_024_000),
        ("129M", "129M", 129_000_000, 129_000_000_000),
        ("1E", "1E", 1_000_000_000_000_000_000, i64::MAX),
        // binary suffixes
        ("1Ki", "1Ki", 1024, 1_024_000),
        ("1024Ki", "1Mi", 1_048_576, 1_048_576_000),
        ("1536Mi", "1536Mi", 1_610_612_736, 1_610_612_736_000),
        ("1.5Gi", "1536Mi", 1_610_612_736, 1_610_612_736_000),
        ("0.5Mi", "512Ki", 524_288, 524_288_000),
        ("0.5Ki", "512", 512, 512_000),
        ("1.1Ki", "1126400m", 1127, 1_126_400),
        ("0.1Ki", "102400m", 103, 102_400),
        ("0.0009765625Ki", "1", 1, 1000),
        ("1.0Ki", "1Ki", 1024, 1_024_000),
        ("1.0000000001Ki", "1024000000103n", 1025, 1_024_001),
        ("0.00048828125Ki", "500m", 1, 500),
        ("16Pi", "16Pi", 18_014_398_509_481_984, i64::MAX),
        // exponents
        ("1e3", "1e3", 1000, 1_000_000),
        ("1E3", "1E3", 1000, 1_000_000),
        ("12e6", "12e6", 12_000_000, 12_000_000_000),
        ("1e0", "1e0", 1, 1000),
        ("100e-2", "1", 1, 1000),
        ("1e1", "10", 10, 10_000),
        ("1e-3", "1e-3", 1, 1),
        // rounded up to the next nano-unit, away from zero
        ("0.5n", "1n", 1, 1),
        ("1e-10", "1e-9", 1, 1),
        ("1.0000000001", "1000000001n", 2, 1001),
        ("-0.0000000001", "-1n", -1, -1),
        // signs
        ("+1", "+1", 1, 1000),
        ("+1Ki", "+1Ki", 1024, 1_024_000),
        ("+0.5", "500m", 1, 500),
        ("-1.5", "-1500m", -2, -1500),
        ("-1Ki", "-1Ki", -1024, -1_024_000),
        // taken for canonical as it stands
        ("01", "01", 1, 1000),
        ("1.500", "1.500", 2, 1500),
        // held at 2^63 - 1 where the suffix is binary, and only there
        ("8Ei", "9223372036854775807", i64::MAX, i64::MAX),
        ("-9Ei", "-9223372036854775807", -i64::MAX, i64::MIN),
        (
            "9223372036854775807Ki",
            "9223372036854775807",
            i64::MAX,
            i64::MAX,
        ),
        (
            "9223372036854775808",
            "9223372036854775808",
            i64::MAX,
            i64::MAX,
        ),
        ("10E", "10E", i64::MAX, i64::MAX),
    ];
    for (text, printed, value, milli) in rows {
        let quantity = q(text);
        assert_eq!(quantity.to_string(), *printed, "{text} printed");
        assert_eq!(quantity.value(), *value, "{text} in units");
        assert_eq!(quantity.milli_value(), *milli, "{text} in thousandths");
    }
}

#[test]
fn refuses_what_upstream_refuses_in_its_words() {
    let format = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
    let suffix = "unable to parse quantity's suffix";
    let number = "unable to parse numeric part of quantity";
    let long = "9".repeat(1000);
    let rows: &[(&str, &str)] = &[
        ("", format),
        (" 1", format),
        ("1 ", format),
        ("1.2.3", format),
        ("abc", format),
        ("1_000", format),
        ("1,5", format),
        ("1x", format),
        ("0x1", format),
        ("1Kim2a", format),
        ("1K", suffix),
        ("1i", suffix),
        ("1mm", suffix),
        ("1Kim", suffix),
        ("1e", suffix),
        ("1e-", suffix),
        ("1e3m", format),
        ("1m3", suffix),
        ("1e99999999999999999999", suffix),
        // beyond what upstream computes with at all, or beyond our 128 bits
        ("1e99999999", number),
        ("1e30", number),
        (&long, number),
    ];
    for (text, error) in rows {
        assert_eq!(
            text.parse::<Quantity>().unwrap_err().to_string(),
            *error,
            "{text}"
        );
    }
}

#[test]
fn is_equal_by_value_and_keeps_its_format() {
    assert_eq!(q("1"), q("1000m"));
    assert_eq!(q("1Gi"), q("1024Mi"));
    assert!(q("1Gi") > q("1G"));
    assert_eq!(q("1Ki").checked_add(&q("1k")).unwrap().to_string(), "2024");
    assert_eq!(q("1Mi").checked_add(&q("1Mi")).unwrap().to_string(), "2Mi");
    assert_eq!(
        Quantity::default().checked_add(&q("1Mi")).unwrap().format(),
        Format::BinarySi
    );
    assert_eq!(
        q("1Mi").checked_sub(&q("512Ki")).unwrap().to_string(),
        "512Ki"
    );
    assert_eq!(q("100m").checked_mul(3).unwrap().to_string(), "300m");
    assert_eq!(q("100E").checked_mul(i64::MAX), None);
    let most = Quantity::from_nano(i128::MAX, Format::DecimalSi);
    assert_eq!(most.checked_add(&q("1")), None);
    assert_eq!(most.saturating_add(&q("1")), most);
}

#[test]
fn is_rounded_away_from_zero_to_thousandths_and_keeps_its_text_where_it_is_whole() {
    let rows = [
        ("100u", "1m"),
        ("1n", "1m"),
        ("-100u", "-1m"),
        ("1000100u", "1001m"),
        ("1000u", "1m"),
        ("100m", "100m"),
        ("0.5", "500m"),
        ("1.500Gi", &*q("1.500Gi").to_string()),
        ("64Mi", "64Mi"),
        ("0", "0"),
    ];
    for (text, expected) in rows {
        assert_eq!(q(text).rounded_to_milli().to_string(), expected, "{text}");
    }
    let most = Quantity::from_nano(i128::MAX, Format::DecimalSi);
    assert!(most.rounded_to_milli() >= most);
}

#[test]
fn reads_text_and_numbers_and_writes_text() {
    for (json, text) in [
        ("\"64Mi\"", "64Mi"),
        ("1", "1"),
        ("0.5", "500m"),
        ("\" 2 \"", "2"),
        ("1e3", "1k"),
        ("-1", "-1"),
    ] {
        let quantity: Quantity = serde_json::from_str(json).unwrap();
        assert_eq!(
            serde_json::to_string(&quantity).unwrap(),
            format!("{text:?}"),
            "{json}"
        );
    }
    for json in ["true", "null", "{}", "\"\"", "1e400"] {
        assert!(serde_json::from_str::<Quantity>(json).is_err(), "{json}");
    }
}

fn any_quantity() -> impl Strategy<Value = Quantity> {
    let format = prop_oneof![
        Just(Format::DecimalSi),
        Just(Format::BinarySi),
        Just(Format::DecimalExponent)
    ];
    // Binary amounts are whole numbers up to 2^63 - 1, as parsing makes them.
    (any::<i64>(), -9..9_i32, format).prop_map(|(number, scale, format)| match format {
        // By powers of two, or hardly any would have a suffix.
        Format::BinarySi => Quantity::new(number.max(-i64::MAX) / (1 << (3 * (scale + 9))) * (1 << (3 * (scale + 9))), format),
        _ => {
            let shift = 10_i128.pow((scale + 9) as u32);
            Quantity::from_nano(i128::from(number) * shift, format)
        }
    })
}

proptest! {
    #[test]
    fn printing_and_reading_give_the_same(quantity in any_quantity()) {
        let text = quantity.to_string();
        let again = q(&text);
        prop_assert_eq!(&again, &quantity);
        // A binary amount that no binary suffix divides reads back as a decimal one.
        let plain = quantity.format() == Format::BinarySi && !text.ends_with('i');
        prop_assert!(plain || again.to_string() == text, "{} became {}", text, again);
        prop_assert_eq!(q(&again.to_string()).to_string(), again.to_string());
    }

    #[test]
    fn canonical_text_has_no_fraction_and_its_greatest_suffix(number in 1..1_000_000_000_i64, scale in -9..19_i32) {
        let text = Quantity::from_nano(i128::from(number) * 10_i128.pow((scale + 9) as u32), Format::DecimalSi).to_string();
        prop_assert!(!text.contains('.') && !text.contains('+'));
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        prop_assert!(!digits.ends_with("000") || text.ends_with('E'), "{}", text);
    }

    #[test]
    fn order_is_that_of_exact_arithmetic(a in -1_000_000_000_000_i64..1_000_000_000_000, b in -1_000_000_000_000_i64..1_000_000_000_000, s in 0..5_usize, t in 0..5_usize) {
        let suffixes = [("n", 1), ("u", 1_000), ("m", 1_000_000), ("", 1_000_000_000_i128), ("Ki", 1024 * 1_000_000_000)];
        let exact = (i128::from(a) * suffixes[s].1).cmp(&(i128::from(b) * suffixes[t].1));
        let read = q(&format!("{a}{}", suffixes[s].0)).cmp(&q(&format!("{b}{}", suffixes[t].0)));
        prop_assert_eq!(read, exact);
    }

    #[test]
    fn adding_commutes_and_undoes(a in any_quantity(), b in any_quantity()) {
        let sum = a.checked_add(&b).unwrap();
        prop_assert_eq!(&sum, &b.checked_add(&a).unwrap());
        prop_assert_eq!(sum.checked_sub(&b).unwrap(), a);
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC*", numeric in "[-+0-9.eEinumkKMGTP]{0,24}") {
        for text in [text, numeric] {
            if let Ok(quantity) = text.parse::<Quantity>() {
                prop_assert_eq!(q(&quantity.to_string()), quantity);
            }
        }
    }
}
