//! Device rules on v2: a small eBPF program, made here instruction by instruction, that the kernel
//! asks before a process of the group uses a device (`BPF_PROG_TYPE_CGROUP_DEVICE`; bpf(2), the
//! kernel's `include/uapi/linux/bpf.h` and `Documentation/bpf/standardization/instruction-set.rst`).
#![allow(unsafe_code)]

use super::devices::{DeviceKind, DeviceRule};
use crate::{Error, Result};
use rustix::fs::{Mode, OFlags};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

const PROG_LOAD: libc::c_long = 5;
const PROG_ATTACH: libc::c_long = 8;
const PROG_DETACH: libc::c_long = 9;
const PROG_GET_FD_BY_ID: libc::c_long = 13;
const PROG_QUERY: libc::c_long = 16;
const TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
/// Every program of the group and its ancestors must agree.
const ALLOW_MULTI: u32 = 2;
/// More programs than this on one of our groups were not put there by us.
const MAX_PROGRAMS: usize = 64;

const KIND_BLOCK: i32 = 1;
const KIND_CHAR: i32 = 2;
const ACCESS_MAKE: i32 = 1;
const ACCESS_READ: i32 = 2;
const ACCESS_WRITE: i32 = 4;

/// `struct bpf_insn`: operation, registers (source high, destination low), offset, immediate.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

const fn instruction(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction {
        code,
        registers: from << 4 | to,
        offset,
        immediate,
    }
}
const fn load_word(to: u8, offset: i16) -> Instruction {
    instruction(0x61, to, 1, offset, 0)
}
const fn copy(to: u8, from: u8) -> Instruction {
    instruction(0xbf, to, from, 0, 0)
}
const fn and(to: u8, bits: i32) -> Instruction {
    instruction(0x54, to, 0, 0, bits)
}
const fn shift_right(to: u8, bits: i32) -> Instruction {
    instruction(0x74, to, 0, 0, bits)
}
const fn set(to: u8, value: i32) -> Instruction {
    instruction(0xb7, to, 0, 0, value)
}
const fn jump_unless(register: u8, value: i32, offset: i16) -> Instruction {
    instruction(0x55, register, 0, offset, value)
}
const EXIT: Instruction = instruction(0x95, 0, 0, 0, 0);

/// The program: 1 where a rule fits, else 0. The context at register 1 is `{ access << 16 | kind,
/// major, minor }`; they are kept in registers 2 (access), 3 (kind), 4 and 5.
fn program(rules: &[DeviceRule]) -> Vec<Instruction> {
    let mut code = vec![
        load_word(2, 0),
        copy(3, 2),
        and(3, 0xffff),
        shift_right(2, 16),
        load_word(4, 4),
        load_word(5, 8),
    ];
    for rule in rules {
        let kind = match rule.kind {
            DeviceKind::Char => KIND_CHAR,
            DeviceKind::Block => KIND_BLOCK,
        };
        let mut block = Vec::new();
        let mut tests = vec![(3, kind)];
        let denied = denied(rule);
        if denied != 0 {
            block.extend([copy(0, 2), and(0, denied)]);
            tests.push((0, 0));
        }
        // A number beyond what the kernel can have fits no device: -1 stands for it.
        let number = |n: u32| i32::try_from(n).unwrap_or(-1);
        tests.extend(rule.major.map(|n| (4, number(n))));
        tests.extend(rule.minor.map(|n| (5, number(n))));
        let count = tests.len() as i16;
        // Each failed test skips the tests that follow it, and the two instructions that allow.
        block.extend(
            (1..)
                .zip(tests)
                .map(|(at, (register, value))| jump_unless(register, value, count - at + 2)),
        );
        block.extend([set(0, 1), EXIT]);
        code.extend(block);
    }
    code.extend([set(0, 0), EXIT]);
    code
}

/// The bits of what a rule does not allow.
fn denied(rule: &DeviceRule) -> i32 {
    let (read, write, make) = rule.access.parts();
    let bit = |allowed: bool, bit: i32| if allowed { 0 } else { bit };
    bit(read, ACCESS_READ) | bit(write, ACCESS_WRITE) | bit(make, ACCESS_MAKE)
}

#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    version: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct Attach {
    group: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct Query {
    group: u32,
    kind: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
}

#[repr(C)]
#[derive(Default)]
struct ById {
    id: u32,
    next: u32,
    flags: u32,
}

/// bpf(2). `T` must be the `repr(C)` beginning of `union bpf_attr` that `command` reads, and the
/// addresses in it must be good for what the command does with them.
unsafe fn bpf<T>(command: libc::c_long, attributes: &mut T) -> std::io::Result<i32> {
    // SAFETY: the kernel reads and writes at most the given size; the rest is the caller's promise.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attributes),
            size_of::<T>(),
        )
    };
    if answer < 0 {
        return Err(std::io::Error::last_os_error());
    }
    i32::try_from(answer).map_err(std::io::Error::other)
}

/// Makes `rules` the ones of the group at `directory`. The new program is there before the old
/// ones go, so at no moment is more allowed than one of them does.
pub(super) fn attach(directory: &Path, rules: &[DeviceRule]) -> Result<()> {
    let group = open(directory)?;
    let old = attached(&group, directory)?;
    let program = load(rules)?;
    let mut attributes = Attach {
        group: group.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        kind: ATTACH_CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    // SAFETY: `Attach` begins as the attach command's part of bpf_attr does and holds no address.
    unsafe { bpf(PROG_ATTACH, &mut attributes) }
        .map_err(Error::path("attach device rules to", directory))?;
    detach(&group, directory, &old)
}

/// Takes all device programs from the group at `directory`; those of its ancestors stay.
pub(super) fn detach_all(directory: &Path) -> Result<()> {
    let group = open(directory)?;
    let old = attached(&group, directory)?;
    detach(&group, directory, &old)
}

fn open(directory: &Path) -> Result<OwnedFd> {
    rustix::fs::open(
        directory,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(Error::path("open", directory))
}

fn load(rules: &[DeviceRule]) -> Result<OwnedFd> {
    let code = program(rules);
    let mut attributes = Load {
        kind: TYPE_CGROUP_DEVICE,
        count: code.len() as u32,
        instructions: code.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        ..Load::default()
    };
    // SAFETY: `Load` begins as the load command's part of bpf_attr does; `code` and the license
    // outlive the call, which only reads them, and `count` is the number of instructions.
    let fd = unsafe { bpf(PROG_LOAD, &mut attributes) }
        .map_err(Error::system("load device rules as an eBPF program"))?;
    // SAFETY: the kernel has just given us this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Programs attached to the group itself.
fn attached(group: &OwnedFd, directory: &Path) -> Result<Vec<OwnedFd>> {
    let mut ids = [0u32; MAX_PROGRAMS];
    let mut attributes = Query {
        group: group.as_raw_fd() as u32,
        kind: ATTACH_CGROUP_DEVICE,
        ids: ids.as_mut_ptr() as u64,
        count: MAX_PROGRAMS as u32,
        ..Query::default()
    };
    // SAFETY: `Query` begins as the query command's part of bpf_attr does; the kernel writes at
    // most `count` ids into `ids`, which has that many.
    unsafe { bpf(PROG_QUERY, &mut attributes) }
        .map_err(Error::path("list the device rules of", directory))?;
    let count = (attributes.count as usize).min(MAX_PROGRAMS);
    ids[..count]
        .iter()
        .map(|id| by_id(*id, directory))
        .collect()
}

fn by_id(id: u32, directory: &Path) -> Result<OwnedFd> {
    let mut attributes = ById {
        id,
        ..ById::default()
    };
    // SAFETY: `ById` is that command's part of bpf_attr and holds no address.
    let fd = unsafe { bpf(PROG_GET_FD_BY_ID, &mut attributes) }
        .map_err(Error::path("open the device rules of", directory))?;
    // SAFETY: the kernel has just given us this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn detach(group: &OwnedFd, directory: &Path, programs: &[OwnedFd]) -> Result<()> {
    for program in programs {
        let mut attributes = Attach {
            group: group.as_raw_fd() as u32,
            program: program.as_raw_fd() as u32,
            kind: ATTACH_CGROUP_DEVICE,
            flags: 0,
        };
        // SAFETY: `Attach` begins as the detach command's part of bpf_attr does, no address in it.
        match unsafe { bpf(PROG_DETACH, &mut attributes) } {
            Ok(_) => {}
            // Another took it away meanwhile.
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {}
            Err(e) => return Err(Error::path("detach device rules from", directory)(e)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::cgroup::{Access, DEFAULT_DEVICES};

    /// Runs a program as the kernel would, for the instructions that are used here.
    fn ask(code: &[Instruction], access: u32, kind: u32, major: u32, minor: u32) -> i64 {
        let context = [access << 16 | kind, major, minor];
        let mut registers = [0i64; 11];
        let mut at = 0usize;
        loop {
            let i = code[at];
            let (to, from) = ((i.registers & 15) as usize, (i.registers >> 4) as usize);
            at += 1;
            match i.code {
                0x61 => registers[to] = i64::from(context[i.offset as usize / 4]),
                0xbf => registers[to] = registers[from],
                0x54 => registers[to] = i64::from(registers[to] as u32 & i.immediate as u32),
                0x74 => registers[to] = i64::from(registers[to] as u32 >> i.immediate),
                0xb7 => registers[to] = i64::from(i.immediate),
                0x55 => {
                    if registers[to] != i64::from(i.immediate) {
                        at += i.offset as usize;
                    }
                }
                0x95 => return registers[0],
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    #[test]
    fn the_program_allows_the_defaults_alone() {
        let code = program(&DEFAULT_DEVICES);
        let (make, read, write, block, character) = (1, 2, 4, 1, 2);
        for (access, kind, major, minor, expected) in [
            (read, character, 1, 3, 1),
            (read | write | make, character, 1, 3, 1),
            (write, character, 1, 9, 1),
            (read, character, 1, 1, 0), // mem
            (read, block, 1, 3, 0),
            (make, block, 8, 0, 1),
            (make | read, block, 8, 0, 0),
            (read, block, 8, 0, 0),
            (make, character, 10, 232, 1), // kvm
            (read | write, character, 10, 232, 0),
            (read | write, character, 136, 77, 1),
            (read | write, character, 5, 3, 0),
        ] {
            assert_eq!(
                ask(&code, access, kind, major, minor),
                expected,
                "{access} {kind} {major}:{minor}"
            );
        }
        assert_eq!(ask(&program(&[]), read, character, 1, 3), 0);
        let fuse = |access: &str| {
            let access = Access::parse(access).unwrap();
            program(&[DeviceRule { kind: DeviceKind::Char, major: Some(10), minor: Some(229), access }])
        };
        for (given, access, expected) in [("r", read, 1), ("r", read | write, 0), ("rw", read | write, 1), ("rw", make, 0), ("rwm", make | read, 1)] {
            assert_eq!(ask(&fuse(given), access, character, 10, 229), expected, "{given} {access}");
        }
    }
}
