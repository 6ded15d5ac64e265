//! Who a container's process is: `user[:group]` looked up in the image's own files.
//!
//! The rules are containerd's (`oci.WithUser`, `oci.WithAdditionalGIDs`), except that a line whose
//! numbers cannot be read is passed over, where its parser would take them for 0, which is root.

use crate::error::{Error, IoContext, Result};
use crate::store::{Image, Store};
use crate::tree::stack::Stack;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Bytes of `/etc/passwd` or `/etc/group`.
const LARGEST: u64 = 16 << 20;
/// Highest id that containerd, and so Kubernetes, takes.
const HIGHEST: u32 = i32::MAX as u32;

/// A user of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// The group and all that list the user, without repetition: what containerd gives the process
    /// as `additionalGids`.
    pub groups: Vec<u32>,
    /// Home directory; `/` where `/etc/passwd` does not know the user.
    pub home: String,
    /// Name, where `/etc/passwd` knows the user.
    pub name: Option<String>,
}

impl Store {
    /// Looks `spec` (`user`, `user:group`, names or numbers; empty means 0) up in the image's
    /// `/etc/passwd` and `/etc/group`, through its layers, without a mount.
    ///
    /// # Errors
    /// [`Error::User`] for a name that the image does not know or a number that is too large.
    pub fn user(&self, image: &Image, spec: &str) -> Result<User> {
        let stack = Stack::open(image.layers.iter().rev().map(PathBuf::as_path))
            .at("open the layers in", self.root())?;
        let fail = |why: String| Error::User {
            user: spec.to_owned(),
            image: image.id.to_string(),
            why,
        };
        let read =
            |path: &str| read(&stack, path).map_err(|e| fail(format!("cannot read {path}: {e}")));
        look_up(spec, &read("/etc/passwd")?, &read("/etc/group")?).map_err(fail)
    }
}

/// A text file of the image; empty where there is none. What is not UTF-8 becomes what no name is.
fn read(stack: &Stack, path: &str) -> std::io::Result<String> {
    let Some(file) = stack.open_file(path.as_bytes())? else {
        return Ok(String::new());
    };
    let mut data = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut data)?;
    if data.len() as u64 > LARGEST {
        return Err(crate::error::invalid(format!(
            "{} is larger than {LARGEST} bytes",
            Path::new(path).display()
        )));
    }
    Ok(String::from_utf8_lossy(&data).into_owned())
}

struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: Vec<&'a str>,
}

fn accounts(passwd: &str) -> impl Iterator<Item = Account<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let (name, _, uid, gid) = (
            fields.next()?,
            fields.next()?,
            fields.next()?,
            fields.next()?,
        );
        let home = fields.nth(1).unwrap_or_default();
        Some(Account {
            name,
            uid: id(uid)?,
            gid: id(gid)?,
            home,
        })
    })
}

fn groups(group: &str) -> impl Iterator<Item = Group<'_>> {
    group.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let (name, _, gid) = (fields.next()?, fields.next()?, fields.next()?);
        let members = fields
            .next()
            .unwrap_or_default()
            .split(',')
            .filter(|m| !m.is_empty())
            .collect();
        Some(Group {
            name,
            gid: id(gid)?,
            members,
        })
    })
}

fn id(text: &str) -> Option<u32> {
    text.bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| text.parse().ok())?
        .filter(|id| *id <= HIGHEST)
}

fn look_up(spec: &str, passwd: &str, group: &str) -> Result<User, String> {
    let (user, group_spec) = match spec.split_once(':') {
        Some((user, group)) if !group.is_empty() => (user, Some(group)),
        Some((user, _)) => (user, None),
        None => (spec, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    if group_spec.is_some_and(|g| g.contains(':')) {
        return Err("write user or user:group".into());
    }
    let account = match id(user) {
        Some(uid) => accounts(passwd).find(|a| a.uid == uid),
        None => Some(
            accounts(passwd)
                .find(|a| a.name == user)
                .ok_or_else(|| unknown(user, "user", "/etc/passwd"))?,
        ),
    };
    let uid = account
        .as_ref()
        .map_or_else(|| id(user), |a| Some(a.uid))
        .unwrap_or_default();
    let gid = match group_spec {
        None => account.as_ref().map_or(0, |a| a.gid),
        Some(text) => match id(text) {
            Some(gid) => gid,
            None => {
                groups(group)
                    .find(|g| g.name == text)
                    .ok_or_else(|| unknown(text, "group", "/etc/group"))?
                    .gid
            }
        },
    };
    let mut all = vec![gid];
    if let Some(account) = &account {
        // A group of the user's own name is no supplementary one, even where it lists the user.
        let theirs =
            groups(group).filter(|g| g.name != account.name && g.members.contains(&account.name));
        for other in theirs {
            if !all.contains(&other.gid) {
                all.push(other.gid);
            }
        }
    }
    let home = account
        .as_ref()
        .map(|a| a.home)
        .filter(|home| home.starts_with('/'))
        .unwrap_or("/");
    Ok(User {
        uid,
        gid,
        groups: all,
        home: home.to_owned(),
        name: account.map(|a| a.name.to_owned()),
    })
}

fn unknown(name: &str, what: &str, file: &str) -> String {
    match name.bytes().all(|b| b.is_ascii_digit()) {
        true => format!("the {what} number {name} is larger than {HIGHEST}"),
        false => format!("there is no {what} {name:?} in the image's {file}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbad:x:zero:0::/:\n  app:x:1000:1001:An app:/home/app:/bin/sh\n\
        app:x:5:5::/second:\nnohome:x:7:8\nhuge:x:4294967296:0::/:\nrel:x:9:9::relative:\n:::\n#c\nminus:x:-1:0::/:\n";
    const GROUP: &str = "root:x:0:root\nwheel:x:10:root,app\napp:x:1001:app\nvideo:x:44:app\nvideo2:x:44:app\nbroken:x:x:app\nempty:x:3:\n";

    #[test]
    fn users_are_found_as_containerd_finds_them() {
        for (spec, uid, gid, groups, home, name) in [
            ("", 0, 0, &[0, 10][..], "/root", Some("root")),
            ("0", 0, 0, &[0, 10], "/root", Some("root")),
            ("app", 1000, 1001, &[1001, 10, 44], "/home/app", Some("app")),
            (
                "1000",
                1000,
                1001,
                &[1001, 10, 44],
                "/home/app",
                Some("app"),
            ),
            ("app:video", 1000, 44, &[44, 10], "/home/app", Some("app")),
            ("app:77", 1000, 77, &[77, 10, 44], "/home/app", Some("app")),
            (
                "app:",
                1000,
                1001,
                &[1001, 10, 44],
                "/home/app",
                Some("app"),
            ),
            (":wheel", 0, 10, &[10], "/root", Some("root")),
            ("4242", 4242, 0, &[0], "/", None),
            ("4242:4343", 4242, 4343, &[4343], "/", None),
            ("nohome", 7, 8, &[8], "/", Some("nohome")),
            ("rel", 9, 9, &[9], "/", Some("rel")),
            ("2147483647", 2147483647, 0, &[0], "/", None),
        ] {
            let user = look_up(spec, PASSWD, GROUP).unwrap();
            assert_eq!(
                (
                    user.uid,
                    user.gid,
                    &user.groups[..],
                    user.home.as_str(),
                    user.name.as_deref()
                ),
                (uid, gid, groups, home, name),
                "{spec}"
            );
        }
        assert_eq!(look_up("12", "", "").unwrap().groups, [0]);
    }

    #[test]
    fn what_the_image_does_not_know_never_becomes_root() {
        for (spec, why) in [
            ("nobody", "no user \"nobody\""),
            ("bad", "no user"),
            ("huge", "no user"),
            ("minus", "no user"),
            ("-1", "no user"),
            ("+0", "no user"),
            ("2147483648", "larger than"),
            ("app:none", "no group"),
            ("app:broken", "no group"),
            ("app:4294967295", "larger than"),
            ("a:b:c", "user:group"),
            (" 0", "no user"),
        ] {
            let error = look_up(spec, PASSWD, GROUP).unwrap_err();
            assert!(error.contains(why), "{spec}: {error}");
        }
    }
}
