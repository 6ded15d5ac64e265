//! A blocking netlink socket: several requests in one message, one answer each. Answers are read
//! attribute by attribute, so that forms of newer kernels that nobody asked for cannot fail us.

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload, NlasIterator,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use netlink_sys::{Socket, SocketAddr};
use std::io;

/// Request flags of what is made anew and must not be there.
pub(crate) const CREATE: u16 = NLM_F_CREATE | NLM_F_EXCL;

const HEADER: usize = 16;
const NESTED: u16 = 1 << 15;
// `include/uapi/linux/netfilter/nfnetlink.h`.
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const TYPE_ERROR: u16 = 2;
const TYPE_DONE: u16 = 3;
const FLAG_MULTI: u16 = 2;
const FLAG_DUMP_INTERRUPTED: u16 = 16;
/// In an error, the flag that says that attributes follow, and the one that holds words.
const FLAG_ACK_ATTRIBUTES: u16 = 0x200;
const ATTRIBUTE_WORDS: u16 = 1;
/// The kernel's answers to dumps are at most 32 KiB.
const BUFFER: usize = 64 << 10;

/// One message of an answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The part after the netlink header: a fixed header of the protocol, then attributes.
    pub(crate) payload: Vec<u8>,
}

impl Answer {
    /// Attributes after a fixed header of `skip` bytes, as (kind, value).
    pub(crate) fn attributes(&self, skip: usize) -> Vec<(u16, &[u8])> {
        attributes(self.payload.get(skip..).unwrap_or_default())
    }

    /// Four bytes of the fixed header.
    pub(crate) fn word(&self, at: usize) -> u32 {
        self.payload.get(at..at + 4).and_then(word).unwrap_or(0)
    }
}

/// The well-formed attributes of `bytes`.
pub(crate) fn attributes(bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    let mut rest = bytes;
    for attribute in NlasIterator::new(bytes).map_while(Result::ok) {
        let (kind, length) = (attribute.kind(), usize::from(attribute.length()));
        if let Some(value) = rest.get(4..length) {
            found.push((kind, value));
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

/// A number in the machine's byte order.
pub(crate) fn word(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?))
}

/// A text that ends with a zero byte.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.split(|b| *b == 0).next().unwrap_or_default()).into_owned()
}

/// Adds an attribute, padded.
pub(crate) fn put(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    bytes.extend(((value.len() + 4) as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// Adds an attribute that holds others.
pub(crate) fn nest(bytes: &mut Vec<u8>, kind: u16, inside: impl FnOnce(&mut Vec<u8>)) {
    let mut value = Vec::new();
    inside(&mut value);
    put(bytes, kind | NESTED, &value);
}

/// A netlink socket. It belongs for good to the network namespace of the thread that opened it.
pub(crate) struct Connection {
    socket: Socket,
    sequence: u32,
}

impl Connection {
    /// To the kernel's links, addresses and routes.
    pub(crate) fn route() -> io::Result<Self> {
        Self::open(NETLINK_ROUTE)
    }

    /// To the kernel's packet filter.
    pub(crate) fn netfilter() -> io::Result<Self> {
        Self::open(NETLINK_NETFILTER)
    }

    fn open(protocol: isize) -> io::Result<Self> {
        let socket = Socket::new(protocol)?;
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// Sends requests together and waits for all answers. An error is the first one's, with its
    /// place among them; the kernel goes on with those behind it.
    pub(crate) fn request(
        &mut self,
        requests: Vec<(RouteNetlinkMessage, u16)>,
    ) -> Result<(), (usize, io::Error)> {
        if requests.is_empty() {
            return Ok(());
        }
        let first = self.sequence.wrapping_add(1);
        let count = requests.len();
        let mut bytes = Vec::with_capacity(512);
        for (request, flags) in requests {
            self.append(&mut bytes, request, NLM_F_REQUEST | NLM_F_ACK | flags);
        }
        self.send(&bytes).map_err(|e| (0, e))?;
        let mut failed: Option<(usize, io::Error)> = None;
        let mut left = count;
        while left > 0 {
            for (sequence, answer) in self.receive().map_err(|e| (0, e))? {
                let at = sequence.wrapping_sub(first) as usize;
                if at >= count {
                    continue;
                }
                match answer {
                    Received::Message(..) => {}
                    Received::End(Ok(())) => left -= 1,
                    Received::End(Err(e)) => {
                        left -= 1;
                        if failed.as_ref().is_none_or(|(before, _)| at < *before) {
                            failed = Some((at, e));
                        }
                    }
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Asks for one thing. `Ok(None)` where it is not there.
    pub(crate) fn get(&mut self, request: RouteNetlinkMessage) -> io::Result<Option<Answer>> {
        let mut bytes = Vec::with_capacity(128);
        self.append(&mut bytes, request, NLM_F_REQUEST | NLM_F_ACK);
        self.ask_one(&bytes)
    }

    /// As [`Connection::get`] for a request of another protocol than links and routes: its type
    /// and the bytes after the netlink header.
    pub(crate) fn get_raw(&mut self, kind: u16, payload: &[u8]) -> io::Result<Option<Answer>> {
        let bytes = self.raw(kind, NLM_F_REQUEST | NLM_F_ACK, payload);
        self.ask_one(&bytes)
    }

    /// Sends a request of another protocol than links and routes and waits for its acknowledgement.
    pub(crate) fn request_raw(&mut self, kind: u16, flags: u16, payload: &[u8]) -> io::Result<()> {
        let bytes = self.raw(kind, NLM_F_REQUEST | NLM_F_ACK | flags, payload);
        self.send(&bytes)?;
        self.collect().map(|_| ())
    }

    /// As [`Connection::dump`] for a request of another protocol.
    pub(crate) fn dump_raw(&mut self, kind: u16, payload: &[u8]) -> io::Result<Vec<Answer>> {
        for _ in 0..10 {
            let bytes = self.raw(kind, NLM_F_REQUEST | NLM_F_DUMP, payload);
            self.send(&bytes)?;
            let (answers, interrupted) = self.collect()?;
            if !interrupted {
                return Ok(answers);
            }
        }
        Err(io::Error::other("what was listed never stood still"))
    }

    /// Sends requests to the packet filter as one transaction: all take effect, or none.
    pub(crate) fn batch(&mut self, requests: &[(u16, u16, Vec<u8>)]) -> io::Result<()> {
        // `struct nfgenmsg` with the subsystem that the batch is for, nf_tables, in network order.
        let envelope = [0, 0, 0, 10];
        let mut bytes = self.raw(BATCH_BEGIN, NLM_F_REQUEST, &envelope);
        let begin = self.sequence;
        for (kind, flags, payload) in requests {
            let message = self.raw(*kind, NLM_F_REQUEST | NLM_F_ACK | flags, payload);
            bytes.extend(message);
        }
        bytes.extend(self.raw(BATCH_END, NLM_F_REQUEST, &envelope));
        self.send(&bytes)?;
        self.collect_batch(begin, requests.len())
    }

    /// The kernel is through with a batch, and has answered, when it has been sent; after some
    /// errors it leaves the requests behind unanswered.
    fn collect_batch(&mut self, begin: u32, count: usize) -> io::Result<()> {
        let (mut outcome, mut answered) = (Ok(()), 0);
        loop {
            let received = match self.receive_with(libc::MSG_DONTWAIT) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                other => other?,
            };
            for (sequence, answer) in received {
                let at = sequence.wrapping_sub(begin) as usize;
                if let (Received::End(result), true) = (answer, at <= count + 1) {
                    answered += usize::from((1..=count).contains(&at));
                    outcome = outcome.and(result);
                }
            }
        }
        match outcome {
            Ok(()) if answered < count => Err(io::Error::other("the kernel did not answer all of a transaction")),
            outcome => outcome,
        }
    }

    fn raw(&mut self, kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut bytes = Vec::with_capacity(HEADER + payload.len());
        bytes.extend(((HEADER + payload.len()) as u32).to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(self.sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn ask_one(&mut self, bytes: &[u8]) -> io::Result<Option<Answer>> {
        self.send(bytes)?;
        let absent = |e: &io::Error| matches!(e.raw_os_error(), Some(libc::ENODEV | libc::ENOENT));
        match self.collect() {
            Ok((mut answers, _)) => Ok(answers.pop()),
            Err(e) if absent(&e) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Asks for all of a kind.
    pub(crate) fn dump(
        &mut self,
        request: impl Fn() -> RouteNetlinkMessage,
    ) -> io::Result<Vec<Answer>> {
        // What changes during a dump may be told twice or not at all; the kernel says when.
        for _ in 0..10 {
            let mut bytes = Vec::with_capacity(128);
            self.append(&mut bytes, request(), NLM_F_REQUEST | NLM_F_DUMP);
            self.send(&bytes)?;
            let (answers, interrupted) = self.collect()?;
            if !interrupted {
                return Ok(answers);
            }
        }
        Err(io::Error::other(
            "links, addresses or routes never stood still",
        ))
    }

    fn append(&mut self, bytes: &mut Vec<u8>, request: RouteNetlinkMessage, flags: u16) {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request));
        message.finalize();
        let start = bytes.len();
        bytes.resize((start + message.buffer_len()).next_multiple_of(4), 0);
        message.serialize(&mut bytes[start..]);
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        loop {
            match self.socket.send(bytes, 0) {
                Ok(_) => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Answers to the last request, until the kernel says that it is done, and whether what was
    /// asked for changed meanwhile.
    fn collect(&mut self) -> io::Result<(Vec<Answer>, bool)> {
        let (mut answers, mut interrupted) = (Vec::new(), false);
        loop {
            for (sequence, received) in self.receive()? {
                if sequence != self.sequence {
                    continue;
                }
                match received {
                    Received::Message(answer, flags) => {
                        interrupted |=
                            flags & FLAG_MULTI != 0 && flags & FLAG_DUMP_INTERRUPTED != 0;
                        answers.push(answer);
                    }
                    Received::End(result) => return result.map(|()| (answers, interrupted)),
                }
            }
        }
    }

    /// One datagram's messages, each with its sequence number.
    fn receive(&self) -> io::Result<Vec<(u32, Received)>> {
        self.receive_with(0)
    }

    fn receive_with(&self, flags: libc::c_int) -> io::Result<Vec<(u32, Received)>> {
        let mut buffer = Vec::with_capacity(BUFFER);
        loop {
            match self.socket.recv(&mut buffer, flags) {
                Ok(_) => return parse(&buffer),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
}

enum Received {
    Message(Answer, u16),
    End(io::Result<()>),
}

fn parse(mut bytes: &[u8]) -> io::Result<Vec<(u32, Received)>> {
    let broken = || io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer is cut off");
    let mut found = Vec::new();
    while bytes.len() >= HEADER {
        let length = word(bytes).ok_or_else(broken)? as usize;
        let half = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        let (kind, flags, sequence) = (half(4), half(6), word(&bytes[8..]).ok_or_else(broken)?);
        let payload = bytes.get(HEADER..length).ok_or_else(broken)?;
        let received = match kind {
            TYPE_ERROR => Received::End(outcome(payload, flags)),
            // A dump's end carries its result.
            TYPE_DONE => Received::End(outcome(payload, 0)),
            _ => Received::Message(
                Answer {
                    payload: payload.to_owned(),
                },
                flags,
            ),
        };
        found.push((sequence, received));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(found)
}

/// An error number, and the kernel's words where it gave any.
fn outcome(payload: &[u8], flags: u16) -> io::Result<()> {
    let code = word(payload).map_or(0, |w| w as i32);
    if code >= 0 {
        return Ok(());
    }
    let error = io::Error::from_raw_os_error(-code);
    if flags & FLAG_ACK_ATTRIBUTES == 0 {
        return Err(error);
    }
    // With NETLINK_CAP_ACK only the header of the request comes back before the attributes.
    let words = attributes(payload.get(4 + HEADER..).unwrap_or_default());
    match words.iter().find(|(kind, _)| *kind == ATTRIBUTE_WORDS) {
        Some((_, words)) => Err(with_words(&error, -code, &text(words))),
        None => Err(error),
    }
}

/// Keeps the error's number readable to callers that ask for it: only where none of them does may
/// words replace it.
fn with_words(error: &io::Error, code: i32, words: &str) -> io::Error {
    match code {
        libc::EEXIST | libc::ENODEV | libc::ENOENT | libc::EOPNOTSUPP => io::Error::from_raw_os_error(code),
        _ => io::Error::new(error.kind(), format!("{error}: {words}")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn message(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
        let mut bytes = ((HEADER + payload.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(7u32.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn errors_carry_the_kernels_words() {
        let mut payload = (-libc::EINVAL).to_ne_bytes().to_vec();
        payload.extend([0; HEADER]);
        let words = b"Invalid prefix\0";
        payload.extend((4 + words.len() as u16).to_ne_bytes());
        payload.extend(ATTRIBUTE_WORDS.to_ne_bytes());
        payload.extend(words);
        payload.push(0);
        let found = parse(&message(TYPE_ERROR, FLAG_ACK_ATTRIBUTES, &payload)).unwrap();
        let (7, Received::End(Err(error))) = &found[0] else {
            panic!("no error")
        };
        assert!(error.to_string().ends_with(": Invalid prefix"), "{error}");
        let found = parse(&message(TYPE_ERROR, 0, &0i32.to_ne_bytes())).unwrap();
        assert!(matches!(found[0], (7, Received::End(Ok(())))));
    }

    #[test]
    fn cut_off_answers_are_errors_and_odd_attributes_end_the_list() {
        let mut bytes = message(16, 0, &[1, 2, 3, 4]);
        assert_eq!(parse(&bytes).unwrap().len(), 1);
        bytes[0] = 200;
        assert!(parse(&bytes).is_err());
        bytes[0] = 3;
        assert!(parse(&bytes).is_err());
        assert!(parse(&[0; 5]).unwrap().is_empty());
        let two = [8, 0, 3, 0, b'x', 0, 0, 0, 5, 0, 4, 0, 9, 0, 0, 0];
        assert_eq!(attributes(&two), [(3, &b"x\0\0\0"[..]), (4, &[9][..])]);
        assert_eq!(attributes(&[8, 0, 3, 0, b'x']), []);
        assert_eq!(attributes(&[0, 0, 3, 0, b'x', 0, 0, 0]), []);
    }
}
