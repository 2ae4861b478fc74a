//! Whom an image means by its user (OCI image specification, `config.User`), by its own `/etc/passwd` and `/etc/group`.

use std::fs::File;
use std::io::Read;

use rustix::process::{Gid, Uid};

use super::{Result, cannot_at};

/// Most bytes of either file.
const MAX_FILE: u64 = 1 << 20;

/// Who the program is.
#[derive(Debug, PartialEq, Eq)]
pub struct User {
    pub uid: Uid,
    pub gid: Gid,
    pub groups: Vec<Gid>,
    pub home: String,
}

/// Finds the user in the files of the image that this process is in.
pub fn find(wanted: &str) -> Result<User> {
    resolve(wanted, &read("/etc/passwd")?, &read("/etc/group")?)
}

/// A file that is missing has no entries.
fn read(path: &str) -> Result<String> {
    let file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(String::new()),
        file => file.map_err(cannot_at("open", path))?,
    };
    let mut text = String::new();
    let read = file
        .take(MAX_FILE + 1)
        .read_to_string(&mut text)
        .map_err(cannot_at("read", path))?;
    match read as u64 > MAX_FILE {
        true => Err(format!("{path} has more than {MAX_FILE} bytes")),
        false => Ok(text),
    }
}

/// A group that is asked for replaces those that the user has by its name, as with other runtimes.
fn resolve(wanted: &str, passwd: &str, group: &str) -> Result<User> {
    let (name, wanted_group) = match wanted.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (wanted, None),
    };
    let mut user = match name {
        "" => known(passwd, "0").unwrap_or_else(|| Known::by_number(0)),
        _ => known(passwd, name)
            .or_else(|| id(name).map(Known::by_number))
            .ok_or_else(|| format!("the image has no user {name}"))?,
    };
    let groups = match wanted_group {
        Some(wanted) => {
            user.gid = group_id(group, wanted)
                .ok_or_else(|| format!("the image has no group {wanted}"))?;
            Vec::new()
        }
        None => memberships(group, &user.name),
    };
    Ok(User {
        uid: Uid::from_raw(user.uid),
        gid: Gid::from_raw(user.gid),
        groups: groups.into_iter().map(Gid::from_raw).collect(),
        home: user.home,
    })
}

struct Known {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

impl Known {
    fn by_number(uid: u32) -> Self {
        let (name, home) = (String::new(), "/".to_owned());
        Self {
            name,
            uid,
            gid: 0,
            home,
        }
    }
}

/// By name, or by number where no name is the same digits.
fn known(passwd: &str, wanted: &str) -> Option<Known> {
    let entries = || passwd.lines().filter_map(passwd_entry);
    let by_name = entries().find(|entry| entry.name == wanted);
    by_name.or_else(|| entries().find(|entry| Some(entry.uid) == id(wanted)))
}

fn passwd_entry(line: &str) -> Option<Known> {
    let mut fields = line.split(':');
    let name = fields.next()?.to_owned();
    let uid = id(fields.nth(1)?)?;
    let gid = id(fields.next()?)?;
    let home = fields.nth(1)?.to_owned();
    Some(Known {
        name,
        uid,
        gid,
        home,
    })
}

fn group_id(group: &str, wanted: &str) -> Option<u32> {
    let mut entries = group.lines().filter_map(group_entry);
    let by_name = entries.find(|(name, ..)| *name == wanted);
    by_name.map(|(_, gid, _)| gid).or_else(|| id(wanted))
}

fn memberships(group: &str, user: &str) -> Vec<u32> {
    let entries = group.lines().filter_map(group_entry);
    let with = entries
        .filter(|(.., members)| !user.is_empty() && members.split(',').any(|one| one == user));
    with.map(|(_, gid, _)| gid).collect()
}

fn group_entry(line: &str) -> Option<(&str, u32, &str)> {
    let mut fields = line.split(':');
    Some((fields.next()?, id(fields.nth(1)?)?, fields.next()?))
}

/// The largest number stands for "no change" in system calls, and is no user.
fn id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| *id != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbroken\nnobody:x:65534:65533:n:/nonexistent:/bin/false\n\
                          77:x:5:6::/five:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nwheel:x:10:root,nobody\nbroken\nstaff:x:50:nobody\n";

    fn resolved(wanted: &str) -> Result<(u32, u32, Vec<u32>, String)> {
        resolve(wanted, PASSWD, GROUP).map(|user| {
            let groups = user.groups.iter().map(|group| group.as_raw()).collect();
            (user.uid.as_raw(), user.gid.as_raw(), groups, user.home)
        })
    }

    #[test]
    fn a_user_is_found_by_name_by_number_and_with_a_group() {
        for (wanted, uid, gid, groups, home) in [
            ("", 0, 0, vec![10], "/root"),
            ("root", 0, 0, vec![10], "/root"),
            ("nobody", 65534, 65533, vec![10, 50], "/nonexistent"),
            ("65534", 65534, 65533, vec![10, 50], "/nonexistent"),
            ("nobody:staff", 65534, 50, vec![], "/nonexistent"),
            ("nobody:7", 65534, 7, vec![], "/nonexistent"),
            ("1000", 1000, 0, vec![], "/"),
            ("1000:1001", 1000, 1001, vec![], "/"),
            ("77", 5, 6, vec![], "/five"),
        ] {
            assert_eq!(
                resolved(wanted),
                Ok((uid, gid, groups, home.to_owned())),
                "{wanted}"
            );
        }
    }

    #[test]
    fn a_user_that_is_nobody_is_refused() {
        for wanted in [
            "daemon",
            "nobody:nogroup",
            "-1",
            "4294967295",
            "1000:",
            "0:4294967295",
            "a:b:c",
        ] {
            assert!(resolved(wanted).is_err(), "{wanted}");
        }
    }
}
