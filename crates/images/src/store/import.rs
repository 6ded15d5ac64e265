//! From what an archive or a registry offers to an image of the store.
//!
//! Each layer flows once through three threads: one reads, hashes and keeps the compressed bytes,
//! one decompresses and hashes, one writes files. Several layers flow at once: what a layer wants to
//! know of those below it is asked when all are there. Nothing appears before every digest fits.

use super::commit::{NewLayer, Stored};
use super::content::{Incoming, Place};
use super::pipe::{Inlet, Outlet, fill, pipe};
use super::records::LayerRecord;
use super::{Image, Store, Temp};
use crate::archive::{LayerBlob, Offer};
use crate::compress;
use crate::config;
use crate::digest::{Digest, Hasher, Metered};
use crate::error::{Error, IoContext, Result, invalid};
use crate::limits::{Budget, Limits};
use crate::source::Blobs;
use crate::tree::stack::Stack;
use crate::tree::writeback::Writeback;
use crate::unpack::{Outcome, Report, Unpacked, Unpacker};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError, mpsc};

/// How to import.
pub(super) struct How<'a> {
    /// What messages call the image.
    pub(super) name: &'a str,
    /// Layers that flow at once.
    pub(super) parallel: usize,
    /// Layers that are there already are not read again.
    pub(super) reuse: bool,
}

/// What happens to a layer.
#[derive(Debug, Clone, Copy)]
pub(super) enum Event {
    /// So many of its bytes are read.
    Bytes { index: usize, done: u64, total: u64 },
    /// All is there; `reused` where nothing was read from the source.
    Done { index: usize, reused: bool },
}

/// What was imported.
pub(super) struct Imported {
    pub(super) image: Image,
    pub(super) names: Vec<String>,
    pub(super) notes: Vec<String>,
    /// Bytes that the source gave.
    pub(super) fetched: u64,
    /// Layers of which it gave none.
    pub(super) reused: usize,
}

/// Why a layer failed.
struct Fail {
    error: Error,
    /// The bytes are not those that were promised.
    damaged: bool,
    /// What was read is good as far as it goes.
    keep: bool,
}

impl From<Error> for Fail {
    fn from(error: Error) -> Self {
        Self {
            error,
            damaged: false,
            keep: false,
        }
    }
}

impl Store {
    /// Brings the layers of `offer`, and records the image. The caller keeps the collector away.
    pub(super) fn import(&self, offer: &Offer, blobs: &dyn Blobs, how: &How<'_>, seen: &mut dyn FnMut(Event)) -> Result<Imported> {
        let (id, diff_ids) = self.check_offer(offer)?;
        let import = Import {
            store: self,
            offer,
            blobs,
            how,
            chains: config::chain(&diff_ids),
            diff_ids,
            budget: Budget::new(&self.limits),
            stop: AtomicBool::new(false),
        };
        let result = import.bring_all(seen).and_then(|brought| import.finish(&id, brought));
        if let Err(error) = &result
            && is_full(error)
        {
            // What was read so far would keep the disk full.
            let parts = offer.layers.iter().filter_map(|layer| layer.promised.as_ref());
            parts.for_each(|(digest, _)| self.drop_partial(digest));
        }
        result
    }

    /// The image's id, and the digests of its unpacked layers.
    pub(super) fn check_offer(&self, offer: &Offer) -> Result<(Digest, Vec<Digest>)> {
        let id = Digest::of(&offer.config);
        let fail = |why: String| Error::Archive {
            archive: format!("image {id}"),
            why,
        };
        let (_, diff_ids) = config::parse(&offer.config).map_err(fail)?;
        if diff_ids.len() != offer.layers.len() {
            let (has, names) = (offer.layers.len(), diff_ids.len());
            return Err(fail(format!("it has {has} layers, but its configuration names {names}")));
        }
        if diff_ids.len() > self.limits.layers {
            let (has, most) = (diff_ids.len(), self.limits.layers);
            return Err(fail(format!("it has {has} layers, and no more than {most} are taken")));
        }
        Ok((id, diff_ids))
    }

    /// Unpacks one layer from its kept content onto the layers below.
    pub(super) fn unpack_kept(&self, file: File, diff_id: &Digest, trees: &[PathBuf], temp: &Temp) -> Result<(Report, Digest)> {
        let budget = Budget::new(&self.limits);
        let length = file.metadata().at("read", &temp.path)?.len();
        let lower = self.stack(trees)?;
        let text = |e: io::Error| unpack_error(diff_id, e);
        let decoded = compress::decoder(BufReader::with_capacity(256 << 10, file)).map_err(text)?;
        let (bound, over) = bound(&self.limits, length);
        let mut plain = BufReader::with_capacity(256 << 10, Metered::new(decoded, bound, over));
        let outcome = unpack_into(temp, &mut plain, Some(&lower), &self.limits, &budget, diff_id)?;
        let (found, _) = plain.into_inner().finish().map_err(text)?;
        check(format!("layer {diff_id} (unpacked)"), diff_id, found)?;
        match outcome {
            Outcome::Unpacked(unpacked) => unpacked.settle(&lower, &diff_id.to_string(), &temp.path("layer/tree")),
            Outcome::NeedsLower => Err(unpack_error(diff_id, io::Error::other("the layers below it are missing"))),
        }
    }

    /// The layers of these trees, which come lowest first.
    pub(super) fn stack(&self, trees: &[PathBuf]) -> Result<Stack> {
        Stack::open(trees.iter().rev().map(PathBuf::as_path)).at("open the layers of", &self.root)
    }
}

/// One image on its way into the store.
struct Import<'a> {
    store: &'a Store,
    offer: &'a Offer,
    blobs: &'a dyn Blobs,
    how: &'a How<'a>,
    diff_ids: Vec<Digest>,
    chains: Vec<Digest>,
    budget: Budget,
    /// Somebody failed: the others need not go on.
    stop: AtomicBool,
}

/// One layer that came through.
struct Brought {
    blob: Option<Digest>,
    fetched: u64,
    /// Where its compressed bytes are.
    place: Place,
    state: State,
    temp: Option<Temp>,
}

enum State {
    /// The store has it.
    Known(LayerRecord),
    /// The layers below are to be asked yet.
    Unpacked(Box<Unpacked>),
    /// It needs files of the layers below.
    Again,
    /// It is as it will be.
    Settled(Report, Digest),
}

impl Import<'_> {
    /// Lets the layers flow, large ones first: they are what is waited for in the end.
    fn bring_all(&self, seen: &mut dyn FnMut(Event)) -> Result<Vec<Brought>> {
        let layers = &self.offer.layers;
        let mut order: Vec<usize> = (0..layers.len()).collect();
        if self.how.parallel > 1 {
            let size = |index: &usize| layers[*index].promised.as_ref().map_or(0, |(_, size)| *size);
            order.sort_by_key(|index| std::cmp::Reverse(size(index)));
        }
        let next = AtomicUsize::new(0);
        let brought: Mutex<Vec<Option<Brought>>> = Mutex::new(layers.iter().map(|_| None).collect());
        let failed: Mutex<Option<Error>> = Mutex::new(None);
        std::thread::scope(|scope| {
            let (events, heard) = mpsc::channel();
            for _ in 0..self.how.parallel.clamp(1, layers.len().max(1)) {
                let events = events.clone();
                let (order, next, brought, failed) = (&order, &next, &brought, &failed);
                scope.spawn(move || {
                    while let Some(index) = order.get(next.fetch_add(1, Relaxed)).filter(|_| !self.stop.load(Relaxed)) {
                        match self.bring(*index, &events) {
                            Ok(layer) => brought.lock().unwrap_or_else(PoisonError::into_inner)[*index] = Some(layer),
                            Err(error) => {
                                // The first error is the cause; those of the stopped are not.
                                failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                                self.stop.store(true, Relaxed);
                            }
                        }
                    }
                });
            }
            drop(events);
            heard.iter().for_each(seen);
        });
        if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        Ok(brought
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
            .into_iter()
            .flatten()
            .collect())
    }

    fn bring(&self, index: usize, events: &mpsc::Sender<Event>) -> Result<Brought> {
        let known = self.store.read_layer(&self.chains[index])?;
        let layer = &self.offer.layers[index];
        if let Some(known) = known.as_ref().filter(|_| self.how.reuse) {
            let _ = events.send(Event::Done { index, reused: true });
            let blob = layer.promised.as_ref().map(|(digest, _)| digest.clone());
            return Ok(Brought {
                blob,
                fetched: 0,
                place: Place::None,
                state: State::Known(known.clone()),
                temp: None,
            });
        }
        // Kept content, or what is left of a broken pull, may have been damaged since: then it goes,
        // and all is read from the source. Both may be there; where neither can be removed, it ends.
        let mut attempts = 0;
        loop {
            attempts += 1;
            let temp = self.store.write()?.temporary_dir()?;
            let incoming = Incoming::open(self.store, layer, self.blobs, &temp)?;
            let (second_hand, place) = (incoming.prefix > 0, incoming.place.clone());
            match self.flow(index, incoming, known.as_ref(), temp, events) {
                Ok(brought) => {
                    let _ = events.send(Event::Done {
                        index,
                        reused: brought.fetched == 0,
                    });
                    return Ok(brought);
                }
                Err(fail) => {
                    if !fail.keep {
                        place.remove();
                    }
                    if !(fail.damaged && second_hand && attempts < 3) {
                        return Err(fail.error);
                    }
                }
            }
        }
    }

    /// One layer through its three threads.
    fn flow(
        &self,
        index: usize,
        incoming: Incoming,
        known: Option<&LayerRecord>,
        temp: Temp,
        events: &mpsc::Sender<Event>,
    ) -> Result<Brought, Fail> {
        let diff_id = &self.diff_ids[index];
        let (place, total) = (incoming.place.clone(), incoming.total);
        let ((packed, packed_end), (plain, mut plain_end)) = (pipe(), pipe());
        let empty = self.store.stack(&[])?;
        let lower = (index == 0).then_some(&empty);
        let (fed, inflated, unpacked) = std::thread::scope(|scope| {
            let feeder = scope.spawn(move || self.feed(index, incoming, packed, events));
            let inflater = scope.spawn(move || inflate(packed_end, plain, total, &self.store.limits));
            let unpacked = match known {
                Some(_) => Ok(None),
                None => unpack_into(&temp, &mut plain_end, lower, &self.store.limits, &self.budget, diff_id).map(Some),
            };
            if unpacked.is_ok() {
                // What follows the archive's end counts for the digests.
                let _ = io::copy(&mut plain_end, &mut io::sink());
            }
            drop(plain_end);
            (join(feeder.join()), join(inflater.join()), unpacked)
        });
        let fed = fed??;
        let found = match inflated? {
            Ok(found) => found,
            // The one who unpacks went away, and says why.
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {
                return Err(unpacked.err().unwrap_or_else(|| unpack_error(diff_id, e)).into());
            }
            Err(e) => return Err(unpack_error(diff_id, e).into()),
        };
        let unpacked = unpacked?;
        check(format!("layer {} (unpacked)", self.offer.layers[index].name), diff_id, found)?;
        let state = match (known, unpacked) {
            (Some(known), _) => State::Known(known.clone()),
            (None, Some(Outcome::Unpacked(unpacked))) if !unpacked.needs_lower() || index == 0 => {
                let (report, tree) = unpacked.settle(&empty, &diff_id.to_string(), &temp.path("layer/tree"))?;
                State::Settled(report, tree)
            }
            (None, Some(Outcome::Unpacked(unpacked))) => State::Unpacked(unpacked),
            (None, _) => State::Again,
        };
        Ok(Brought {
            blob: Some(fed.0),
            fetched: fed.1,
            place,
            state,
            temp: Some(temp),
        })
    }

    /// Reads, hashes and keeps the compressed bytes, and passes them on. Where nobody wants them any
    /// more it reads on all the same: whether they are what was promised matters more than what is
    /// wrong with them. Returns their digest, and how many came from the source.
    fn feed(&self, index: usize, incoming: Incoming, out: Inlet, events: &mpsc::Sender<Event>) -> Result<(Digest, u64), Fail> {
        let layer = &self.offer.layers[index];
        let Incoming {
            mut kept,
            mut copy,
            prefix,
            total,
            place: _,
            promised,
        } = incoming;
        let mut flow = Flow {
            hasher: Hasher::new(),
            done: 0,
            out,
            wanted: true,
        };
        let tell = |done| {
            let _ = events.send(Event::Bytes { index, done, total });
        };
        while flow.done < prefix {
            self.go_on()?;
            let Some(file) = &mut kept else { break };
            let (n, result) = flow.pass(file, total.saturating_sub(flow.done), |_| Ok(()));
            result.map_err(|e| unpack_error(&self.diff_ids[index], e))?;
            if n == 0 {
                break;
            }
            tell(flow.done);
        }
        let from = flow.done;
        let mut written = Writeback::new(from);
        if from < total || prefix == 0 {
            let mut reader = self.open(layer, from)?;
            loop {
                self.go_on()?;
                // One byte more than promised is enough to know.
                let (n, result) = flow.pass(&mut *reader, (total - flow.done).saturating_add(1), |data| match &mut copy {
                    Some(copy) => copy.write_all(data),
                    None => Ok(()),
                });
                if flow.done > total {
                    return Err(unpack_error(
                        &self.diff_ids[index],
                        invalid(format!("layer {} is longer than promised", layer.name)),
                    )
                    .into());
                }
                result.map_err(|e| self.broken(index, flow.done, total, e))?;
                if n == 0 {
                    break;
                }
                if let Some(copy) = &copy {
                    written.begin(copy, flow.done);
                }
                tell(flow.done);
            }
        }
        let (done, found) = (flow.done, flow.hasher.finish());
        if done != total {
            return Err(self.broken(index, done, total, invalid("it ends there")));
        }
        if let Some(promised) = &promised {
            check(layer.name.clone(), promised, found.clone()).map_err(|error| Fail {
                error,
                damaged: true,
                keep: false,
            })?;
        }
        Ok((found, done - from))
    }

    fn open(&self, layer: &LayerBlob, from: u64) -> Result<Box<dyn Read + Send + '_>, Fail> {
        let resumed = layer
            .promised
            .as_ref()
            .and_then(|(digest, size)| self.blobs.resume(digest, *size, from));
        match resumed {
            Some(result) => result.map_err(|error| Fail {
                error,
                damaged: false,
                keep: true,
            }),
            None => Ok(self.blobs.open(&layer.name)?.0),
        }
    }

    fn go_on(&self) -> Result<(), Fail> {
        match self.stop.load(Relaxed) {
            false => Ok(()),
            true => Err(Fail {
                error: self.pull_error("another layer failed".into()),
                damaged: false,
                keep: true,
            }),
        }
    }

    fn broken(&self, index: usize, done: u64, total: u64, e: io::Error) -> Fail {
        let layer = &self.offer.layers[index];
        // Only a source from afar can be asked for the rest another time.
        let keep = e.raw_os_error().is_none() && done < total;
        let why = format!("layer {} breaks off after {done} of {total} bytes: {e}", layer.name);
        Fail {
            error: self.pull_error(why),
            damaged: false,
            keep,
        }
    }

    fn pull_error(&self, why: String) -> Error {
        Error::Pull {
            image: self.how.name.to_owned(),
            why,
        }
    }

    /// Lets each layer ask those below it, and lets all appear.
    fn finish(&self, id: &Digest, brought: Vec<Brought>) -> Result<Imported> {
        let (mut trees, mut layers, mut notes) = (Vec::new(), Vec::new(), self.offer.notes.clone());
        let (mut fetched, mut reused) = (0, 0);
        for (index, one) in brought.into_iter().enumerate() {
            let (diff_id, chain_id) = (&self.diff_ids[index], &self.chains[index]);
            fetched += one.fetched;
            reused += usize::from(one.fetched == 0);
            let settled = match (one.state, &one.temp) {
                (State::Known(known), _) => {
                    trees.push(self.store.layer(chain_id).join("tree"));
                    layers.push(NewLayer::known(known, one.blob, one.place, one.temp));
                    continue;
                }
                (State::Settled(report, tree), _) => (report, tree),
                (State::Unpacked(unpacked), Some(temp)) => {
                    unpacked.settle(&self.store.stack(&trees)?, &diff_id.to_string(), &temp.path("layer/tree"))?
                }
                (State::Again, Some(temp)) => {
                    let file = one.place.open(self.store, one.blob.as_ref())?;
                    self.store.unpack_kept(file, diff_id, &trees, temp)?
                }
                (_, None) => return Err(self.pull_error(format!("layer {diff_id} got lost"))),
            };
            let (report, tree) = settled;
            notes.extend(report.warnings);
            trees.extend(one.temp.as_ref().map(|temp| temp.path("layer/tree")));
            let record = LayerRecord::new(diff_id.clone(), chain_id.clone(), report.bytes, Some(tree), one.blob.clone());
            layers.push(NewLayer::new(record, one.blob, one.place, one.temp));
        }
        let Stored { image, names } = self.store.commit(id, self.offer, layers)?;
        Ok(Imported {
            image,
            names,
            notes,
            fetched,
            reused,
        })
    }
}

/// Bytes on their way to the one who decompresses.
struct Flow {
    hasher: Hasher,
    done: u64,
    out: Inlet,
    wanted: bool,
}

impl Flow {
    /// Passes on one buffer of at most `most` bytes. Returns how many, and what went wrong after them.
    fn pass(
        &mut self,
        reader: &mut (impl Read + ?Sized),
        most: u64,
        copy: impl FnOnce(&[u8]) -> io::Result<()>,
    ) -> (usize, io::Result<()>) {
        let mut buffer = self.out.buffer();
        let most = buffer.len().min(usize::try_from(most).unwrap_or(usize::MAX));
        let (n, result) = fill(reader, &mut buffer[..most]);
        let data = &buffer[..n];
        self.hasher.update(data);
        self.done += n as u64;
        let result = copy(data).and(result);
        if self.wanted && n > 0 {
            self.wanted = self.out.send(buffer, n);
        }
        (n, result)
    }
}

/// Decompresses and hashes.
fn inflate(mut packed: Outlet, mut out: Inlet, length: u64, limits: &Limits) -> io::Result<Digest> {
    let (bound, over) = bound(limits, length);
    let mut hasher = Hasher::new();
    let mut count = 0;
    {
        let mut decoder = compress::decoder(&mut packed)?;
        loop {
            let mut buffer = out.buffer();
            let (n, result) = fill(&mut *decoder, &mut buffer);
            count += n as u64;
            if count > bound {
                return Err(invalid(over));
            }
            hasher.update(&buffer[..n]);
            result?;
            if n == 0 {
                break;
            }
            if !out.send(buffer, n) {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
        }
    }
    drop(out);
    // What follows the compressed stream counts for the blob's digest only.
    io::copy(&mut packed, &mut io::sink())?;
    Ok(hasher.finish())
}

/// Unpacks into `layer/tree` of `temp`.
fn unpack_into(
    temp: &Temp,
    data: &mut impl BufRead,
    lower: Option<&Stack>,
    limits: &Limits,
    budget: &Budget,
    diff_id: &Digest,
) -> Result<Outcome> {
    let (tree, trash) = (temp.path("layer/tree"), temp.path("trash"));
    if tree.exists() {
        fs::rename(temp.path("layer"), trash.join("layer")).at("remove", &tree)?;
    }
    fs::create_dir_all(&tree).at("create", &tree)?;
    rustix::fs::chmod(&tree, rustix::fs::Mode::from_raw_mode(0o755)).at("protect", &tree)?;
    let root = File::open(&tree).at("open", &tree)?;
    let trash = File::open(&trash).at("open", &trash)?;
    Unpacker::new(root.into(), trash.as_fd(), lower, limits, budget).run(data, &diff_id.to_string())
}

/// Bytes that a blob of `length` may unpack to, and the sentence for more.
fn bound(limits: &Limits, length: u64) -> (u64, String) {
    let grown = limits.free_growth_bytes.max(length.saturating_mul(limits.ratio));
    // Headers and padding come on top of the files' own bytes.
    let total = limits.image_bytes.saturating_add(limits.entries.saturating_mul(2048));
    if grown < total {
        let ratio = limits.ratio;
        (
            grown,
            format!("it unpacks to more than {grown} bytes, {ratio} times its compressed size: it looks like a bomb"),
        )
    } else {
        (total, format!("the image has more than {} bytes", limits.image_bytes))
    }
}

fn unpack_error(diff_id: &Digest, e: io::Error) -> Error {
    Error::Unpack {
        layer: diff_id.to_string(),
        entry: String::new(),
        why: e.to_string(),
    }
}

pub(super) fn check(what: String, expected: &Digest, found: Digest) -> Result<()> {
    if *expected == found {
        return Ok(());
    }
    Err(Error::DigestMismatch {
        what,
        expected: expected.to_string(),
        found: found.to_string(),
    })
}

/// Whether a disk or a quota is full.
fn is_full(error: &Error) -> bool {
    let text = error.to_string();
    [rustix::io::Errno::NOSPC, rustix::io::Errno::DQUOT]
        .iter()
        .any(|e| text.contains(&format!("os error {}", e.raw_os_error())))
}

/// The result of a thread; one that panicked is an error, not another panic.
fn join<T>(result: std::thread::Result<T>) -> Result<T, Fail> {
    result.map_err(|_| unpack_error(&Digest::of(b""), io::Error::other("a thread of the unpacking ended unexpectedly")).into())
}
