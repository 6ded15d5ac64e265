//! Any text as a quantity: what it prints is read as the same amount and printed the same again.
#![no_main]

use cofferdam_model::Quantity;
use cofferdam_model::quantity::Format;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(quantity) = text.parse::<Quantity>() else { return };
    let printed = quantity.to_string();
    let again: Quantity = printed.parse().unwrap_or_else(|e| panic!("{text:?} prints {printed:?}: {e}"));
    assert_eq!(again.nano(), quantity.nano(), "{text:?} prints {printed:?}");
    // 62.5Ki prints 64000, which alone is read as decimal, and so prints 64k; as in Kubernetes.
    assert!(again.format() != quantity.format() || again.to_string() == printed, "{text:?} prints {printed:?}, then {again}");
    // What is computed prints canonically, and that is read as the same amount, too.
    let doubled = quantity.checked_add(&quantity);
    assert_eq!(doubled, quantity.checked_mul(2), "{text:?}");
    if let Some(doubled) = doubled {
        let printed = doubled.to_string();
        let read: Quantity = printed.parse().unwrap_or_else(|e| panic!("{text:?} twice prints {printed:?}: {e}"));
        // What is read with a binary suffix is held at 2^63 - 1 units, as Kubernetes holds it.
        let held = doubled.format() == Format::BinarySi && doubled.nano().abs() > i128::from(i64::MAX) * 1_000_000_000;
        assert!(held || read.nano() == doubled.nano(), "{text:?} twice prints {printed:?}");
        assert_eq!(doubled.checked_sub(&quantity).map(|q| q.nano()), Some(quantity.nano()), "{text:?}");
        assert_eq!(doubled.cmp(&quantity) as i32, quantity.sign(), "{text:?}");
    }
});
