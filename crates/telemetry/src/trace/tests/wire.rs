#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
//! The bytes themselves, by the numbers of opentelemetry-proto, so that the definitions are not only checked by themselves.

use crate::trace::context::Context;
use crate::trace::{Event, Span, Value, proto};
use prost::Message;

/// A field of wire type 2: tag, length, bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    // Field numbers below 16 and lengths below 128 are one byte each.
    assert!(number < 16 && bytes.len() < 128 + 128 * 127);
    let mut out = vec![number << 3 | 2];
    match bytes.len() {
        short @ 0..128 => out.push(short as u8),
        long => out.extend([(long & 0x7f) as u8 | 0x80, (long >> 7) as u8]),
    }
    out.extend(bytes);
    out
}

fn fixed64(number: u8, value: u64) -> Vec<u8> {
    [&[number << 3 | 1][..], &value.to_le_bytes()].concat()
}

fn varint(number: u8, value: u8) -> Vec<u8> {
    assert!(value < 128);
    vec![number << 3, value]
}

fn text(key: &str, value: &str) -> Vec<u8> {
    [field(1, key.as_bytes()), field(2, &field(1, value.as_bytes()))].concat()
}

#[test]
fn a_request_is_these_bytes() {
    let span = Span {
        context: Context {
            trace: [0xa1; 16],
            span: [0xb2; 8],
            sampled: true,
        },
        parent: Some([0xc3; 8]),
        remote: true,
        server: true,
        name: "n".to_owned(),
        start: 7,
        end: 9,
        attributes: vec![("k".to_owned(), Value::Text("v".to_owned())), ("c".to_owned(), Value::Number(5))],
        dropped_attributes: 3,
        events: vec![Event {
            at: 8,
            name: "e",
            attributes: vec![("f".to_owned(), Value::Text("g".to_owned()))],
        }],
        dropped_events: 4,
        failure: Some("why".to_owned()),
    };
    let number = [field(1, b"c"), field(2, &varint(3, 5))].concat();
    let event = [fixed64(1, 8), field(2, b"e"), field(3, &text("f", "g"))].concat();
    let wanted = [
        field(1, &[0xa1; 16]),
        field(2, &[0xb2; 8]),
        field(4, &[0xc3; 8]),
        field(5, b"n"),
        varint(6, 2),
        fixed64(7, 7),
        fixed64(8, 9),
        field(9, &text("k", "v")),
        field(9, &number),
        varint(10, 3),
        field(11, &event),
        varint(12, 4),
        field(15, &[field(2, b"why"), varint(3, 2)].concat()),
        // Field 16, fixed32: sampled, and a parent that is known to be remote.
        vec![0x85, 0x01, 0x01, 0x03, 0, 0],
    ]
    .concat();
    let scope = [field(1, b"cofferdam"), field(2, b"1.2.3")].concat();
    let resource = field(1, &text("service.name", "s"));
    let spans = [field(1, &scope), field(2, &wanted)].concat();
    let wanted = field(1, &[field(1, &resource), field(2, &spans)].concat());
    let made = proto::request(&[("service.name".to_owned(), "s".to_owned())], "1.2.3", &[span]);
    assert_eq!(made.encode_to_vec(), wanted);
}

#[test]
fn answers_are_read_by_their_numbers() {
    let partial = [varint(1, 3), field(2, b"no")].concat();
    assert_eq!(proto::refused(&field(1, &partial)), (3, "no".to_owned()));
    assert_eq!(proto::refused(b""), (0, String::new()));
    let delay = [varint(1, 2), varint(2, 9)].concat();
    let any = [field(1, b"type.googleapis.com/google.rpc.RetryInfo"), field(2, &field(1, &delay))].concat();
    let status = [varint(1, 14), field(2, b"busy"), field(3, &any)].concat();
    let (why, after) = proto::error(&status);
    assert_eq!((why.as_str(), after), ("busy", Some(std::time::Duration::new(2, 9))));
}
