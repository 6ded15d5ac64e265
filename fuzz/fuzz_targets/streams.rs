//! Any bytes as SPDY frames of one connection. What is read is within its bounds, and written down it is read
//! as the same; the rest is one printable line.
#![no_main]

use cofferdam_fuzz::one_line;
use cofferdam_streaming::spdy::{Frame, HeaderReader, HeaderWriter, MAX_HEADER_BLOCK, Prefix, decode, decode_prefix, encode};
use libfuzzer_sys::fuzz_target;

/// Names are written in lower case; two that differ in nothing else cannot be read again.
fn lower(frame: &mut Frame) -> bool {
    let (Frame::SynStream { headers, .. } | Frame::SynReply { headers, .. } | Frame::Headers { headers, .. }) = frame else {
        return true;
    };
    let plain: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    assert!(plain <= MAX_HEADER_BLOCK);
    let names: std::collections::BTreeSet<String> = headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    let all = names.len() == headers.len();
    headers.iter_mut().for_each(|(name, _)| name.make_ascii_lowercase());
    all
}

fuzz_target!(|data: &[u8]| {
    let (mut reader, mut writer, mut again) = (HeaderReader::default(), HeaderWriter::default(), HeaderReader::default());
    let mut rest = data;
    while let Some((head, after)) = rest.split_first_chunk::<8>() {
        let (kind, flags, length) = match decode_prefix(*head) {
            Ok(Prefix::Data { length, .. }) => {
                rest = &after[length.min(after.len())..];
                continue;
            }
            Ok(Prefix::Control { kind, flags, length }) => (kind, flags, length),
            Err(error) => return one_line(error),
        };
        assert!(length <= MAX_HEADER_BLOCK);
        let Some((payload, following)) = after.split_at_checked(length) else { return };
        rest = following;
        let mut frame = match decode(kind, flags, payload, &mut reader) {
            Ok(Some(frame)) => frame,
            Ok(None) => continue,
            Err(error) => return one_line(error),
        };
        if !lower(&mut frame) {
            continue;
        }
        let mut written = bytes::BytesMut::new();
        // Headers near the bound may be compressed to more.
        if encode(&frame, &mut writer, &mut written).is_err() {
            return;
        }
        let (head, payload) = written.split_first_chunk::<8>().unwrap();
        let Ok(Prefix::Control { kind, flags, length }) = decode_prefix(*head) else { panic!("{frame:?} is written as no control frame") };
        assert_eq!(length, payload.len());
        assert_eq!(decode(kind, flags, payload, &mut again), Ok(Some(frame)));
    }
});
