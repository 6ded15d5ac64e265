//! The pod's user namespace. The monitor stays in the machine's, where it has rights over logs,
//! cgroups and mounts: a child makes the namespace, and in it those that are to belong to it; the
//! monitor enters the latter and keeps the former by a file.

use crate::mounts;
use crate::sys::{self, sentence};
use cofferdam_monitor::protocol::UserNamespace;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// Makes the user namespace and, belonging to it, those of `flags` (`CLONE_NEW*`), which this process
/// enters. The order is the kernel's: a namespace belongs to the user namespace of its maker.
pub(crate) fn make(wanted: &UserNamespace, flags: libc::c_int) -> Result<(), String> {
    let pair = || pipe_with(PipeFlags::CLOEXEC).map(|(r, w)| (File::from(r), File::from(w))).map_err(|e| format!("A pipe cannot be made: {e}."));
    let (mut told, tell) = pair()?;
    let (hear, mut answer) = pair()?;
    let Some(pid) = sys::fork().map_err(|e| format!("A child for the user namespace cannot be forked: {e}."))? else {
        drop((told, answer));
        child(flags, &tell, &hear);
    };
    drop((tell, hear));
    let made = finish(wanted, flags, pid, &mut told, &mut answer);
    sys::kill(pid, libc::SIGKILL);
    let id = rustix::process::Pid::from_raw(pid);
    while matches!(rustix::process::waitpid(id, rustix::process::WaitOptions::empty()), Err(Errno::INTR)) {}
    made
}

/// In the child: each step is told by a byte, a failure by a sentence.
fn child(flags: libc::c_int, mut tell: &File, mut hear: &File) -> ! {
    sys::end_with_parent();
    let mut work = || {
        sys::unshare(libc::CLONE_NEWUSER).map_err(|e| format!("A user namespace cannot be made: {e}."))?;
        let mut byte = [0];
        tell.write_all(&[0]).and_then(|()| hear.read_exact(&mut byte)).map_err(|e| e.to_string())?;
        // Now that 0 means somebody: what is made belongs to the namespace's own root.
        sys::become_root().map_err(|e| format!("The user namespace's root cannot be taken on: {e}."))?;
        if flags != 0 {
            sys::unshare(flags).map_err(|e| format!("Namespaces cannot be made in a user namespace: {e}."))?;
        }
        tell.write_all(&[0]).and_then(|()| hear.read_exact(&mut byte)).map_err(|e| e.to_string())
    };
    if let Err(why) = work() {
        let _ = tell.write_all(why.as_bytes());
    }
    sys::exit_now(0)
}

fn finish(wanted: &UserNamespace, flags: libc::c_int, pid: i32, told: &mut File, answer: &mut File) -> Result<(), String> {
    step(told)?;
    let map = format!("0 {} {}\n", wanted.first, wanted.count);
    for name in ["uid_map", "gid_map"] {
        let path = PathBuf::from(format!("/proc/{pid}/{name}"));
        // One write: the kernel takes a map whole.
        std::fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|mut file| file.write_all(map.as_bytes()))
            .map_err(|e| sentence(&path, &format!("cannot be set to {map:?}"), e))?;
    }
    answer.write_all(&[0]).map_err(|e| format!("The child for the user namespace is gone: {e}."))?;
    step(told)?;
    for (name, flag) in [("net", libc::CLONE_NEWNET), ("ipc", libc::CLONE_NEWIPC), ("uts", libc::CLONE_NEWUTS)] {
        if flags & flag != 0 {
            let path = PathBuf::from(format!("/proc/{pid}/ns/{name}"));
            let file = File::open(&path).map_err(|e| sentence(&path, "cannot be opened", e))?;
            sys::enter(std::os::fd::AsFd::as_fd(&file)).map_err(|e| sentence(&path, "cannot be entered", e))?;
        }
    }
    mounts::make_file(&wanted.file)?;
    let source = PathBuf::from(format!("/proc/{pid}/ns/user"));
    sys::mount(&source, &wanted.file, "", libc::MS_BIND, "")
}

/// Waits for the child's next step.
fn step(told: &mut File) -> Result<(), String> {
    let mut byte = [0];
    match told.read(&mut byte) {
        Ok(1) if byte[0] == 0 => Ok(()),
        Ok(1) => {
            let mut why = vec![byte[0]];
            let _ = Read::by_ref(told).take(4096).read_to_end(&mut why);
            Err(String::from_utf8_lossy(&why).into_owned())
        }
        _ => Err(sentence(Path::new("/proc/self/ns/user"), "cannot be made anew", Errno::CHILD)),
    }
}
