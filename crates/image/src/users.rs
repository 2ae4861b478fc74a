//! As whom an image runs: `user`, `uid`, `user:group` and their mixtures, looked up in the image's own accounts.

use std::fmt;

use worldcompute_fault::{Fault, Result};

use crate::refusal::{excerpt, invalid};

/// The largest `/etc/passwd` or `/etc/group`, in bytes.
pub const MAX_ACCOUNTS_BYTES: usize = 1 << 20;
/// The most groups of a process beside its own.
pub const MAX_GROUPS: usize = 1_024;
/// The longest name of a user or a group, in bytes.
pub const MAX_NAME_BYTES: usize = 256;
/// The largest number of a user or a group. The one above it is the kernel's word for no change.
const MAX_ID: u32 = i32::MAX as u32;

/// A user as an image spells it; not looked up yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    user: String,
    group: Option<String>,
}

/// Who that is in the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Number of the user.
    pub uid: u32,
    /// Number of its group.
    pub gid: u32,
    /// Numbers of the other groups, ascending.
    pub groups: Vec<u32>,
    /// Home directory, absolute.
    pub home: String,
}

impl User {
    /// Reads `user`, `uid`, and either with `:group` or `:gid` behind it. Nothing at all is the user 0.
    ///
    /// # Errors
    /// `invalid_user`.
    pub fn parse(text: &str) -> Result<Self> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        let is_name = |name: &str| {
            name.len() <= MAX_NAME_BYTES
                && !name
                    .chars()
                    .any(|c| c == ':' || c.is_control() || c.is_whitespace())
        };
        if !is_name(user) || !group.is_none_or(is_name) {
            let message = format!("{} is no user", excerpt(text));
            return Err(invalid("invalid_user", message)
                .hint("write it as name, uid, name:group or uid:gid"));
        }
        Ok(Self {
            user: if user.is_empty() { "0" } else { user }.to_owned(),
            group: group.filter(|group| !group.is_empty()).map(str::to_owned),
        })
    }

    /// Looks the user up in the bytes of the image's `/etc/passwd` and `/etc/group`, which are empty where it has none.
    ///
    /// As container engines do: a number needs no account, and has group 0 then; a name does. Whoever is named without a
    /// group is in all of its groups, with one in that alone. Of several accounts the first counts, and lines that are
    /// none are passed over.
    ///
    /// # Errors
    /// `user_not_in_image`, `group_not_in_image`; `accounts_too_large`; `too_many_groups`.
    pub fn resolve(&self, passwd: &[u8], group: &[u8]) -> Result<Identity> {
        let (passwd, group) = (text(passwd)?, text(group)?);
        let account = passwd
            .lines()
            .filter_map(Account::read)
            .find(|account| account.is(&self.user));
        let uid = match &account {
            Some(account) => account.uid,
            None => id(&self.user).ok_or_else(|| missing("user", &self.user))?,
        };
        let gid = match &self.group {
            Some(name) => group_named(&group, name)?,
            None => account.as_ref().map_or(0, |account| account.gid),
        };
        let named = account.as_ref().filter(|_| self.group.is_none());
        let groups = named.map_or(Ok(Vec::new()), |account| {
            groups_of(&group, account.name, gid)
        })?;
        let home = account
            .map(|account| account.home)
            .filter(|home| home.starts_with('/'));
        Ok(Identity {
            uid,
            gid,
            groups,
            home: home.unwrap_or("/").to_owned(),
        })
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.user)?;
        self.group
            .iter()
            .try_for_each(|group| write!(f, ":{group}"))
    }
}

/// A line of `/etc/passwd` (passwd(5)).
struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

impl<'a> Account<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let fields: Vec<_> = line.split(':').collect();
        let [name, _, uid, gid, _, home, ..] = fields.as_slice() else {
            return None;
        };
        Some(Self {
            name: Some(*name).filter(|name| !name.is_empty())?,
            uid: id(uid)?,
            gid: id(gid)?,
            home,
        })
    }

    fn is(&self, user: &str) -> bool {
        self.name == user || id(user) == Some(self.uid)
    }
}

/// A line of `/etc/group` (group(5)): its name, its number, its members.
fn read_group(line: &str) -> Option<(&str, u32, &str)> {
    let fields: Vec<_> = line.split(':').collect();
    let [name, _, gid, members, ..] = fields.as_slice() else {
        return None;
    };
    Some((name, id(gid)?, members))
}

fn group_named(groups: &str, wanted: &str) -> Result<u32> {
    let mut read = groups.lines().filter_map(read_group);
    let found = read.find(|(name, gid, _)| *name == wanted || id(wanted) == Some(*gid));
    let number = found.map(|(_, gid, _)| gid).or_else(|| id(wanted));
    number.ok_or_else(|| missing("group", wanted))
}

fn groups_of(groups: &str, user: &str, own: u32) -> Result<Vec<u32>> {
    let read = groups.lines().filter_map(read_group);
    let joined = read.filter(|(_, _, members)| members.split(',').any(|member| member == user));
    let mut numbers: Vec<_> = joined
        .map(|(_, gid, _)| gid)
        .filter(|gid| *gid != own)
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    if numbers.len() > MAX_GROUPS {
        let message = format!(
            "user {} is in {} groups: {MAX_GROUPS} is the most",
            excerpt(user),
            numbers.len()
        );
        return Err(invalid("too_many_groups", message)
            .hint("name the group in the image's user, as in name:group"));
    }
    Ok(numbers)
}

/// A number as the kernel has it: digits alone.
fn id(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.then(|| text.parse().ok()).flatten();
    number.filter(|number| *number <= MAX_ID)
}

fn text(accounts: &[u8]) -> Result<std::borrow::Cow<'_, str>> {
    if accounts.len() > MAX_ACCOUNTS_BYTES {
        let message = format!(
            "accounts of {} bytes in the image: {MAX_ACCOUNTS_BYTES} is the most",
            accounts.len()
        );
        return Err(invalid("accounts_too_large", message).hint("use an image with fewer accounts"));
    }
    Ok(String::from_utf8_lossy(accounts))
}

fn missing(what: &str, name: &str) -> Fault {
    let code = if what == "user" {
        "user_not_in_image"
    } else {
        "group_not_in_image"
    };
    invalid(code, format!("the image has no {what} {}", excerpt(name)))
        .hint("build the image with that account, or with a number in its place")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n# a comment\nbroken:x:\napp:x:1000:1001:App:/home/app:/bin/sh\n\
        app:x:7:7::/second:/bin/sh\nfloating:x:12:12::relative:/bin/sh\n";
    const GROUP: &str =
        "root:x:0:\nwheel:x:10:root,app\nstaff:x:50:app\nstaff:x:51:other\napp:x:1001:app\n";

    fn resolve(user: &str) -> Result<Identity> {
        User::parse(user)?.resolve(PASSWD.as_bytes(), GROUP.as_bytes())
    }

    fn who(user: &str) -> (u32, u32, Vec<u32>, String) {
        let who = resolve(user).unwrap();
        (who.uid, who.gid, who.groups, who.home)
    }

    #[test]
    fn names_and_numbers_are_looked_up_as_container_engines_do() {
        let app = (1000, 1001, vec![10, 50], "/home/app".to_owned());
        assert_eq!(who("app"), app);
        assert_eq!(who("1000"), app);
        assert_eq!(who("app:"), app);
        assert_eq!(who(""), (0, 0, vec![10], "/root".to_owned()));
        assert_eq!(who("app:staff"), (1000, 50, vec![], "/home/app".to_owned()));
        assert_eq!(who("app:10"), (1000, 10, vec![], "/home/app".to_owned()));
        assert_eq!(who("4321"), (4321, 0, vec![], "/".to_owned()));
        assert_eq!(who("4321:8765"), (4321, 8765, vec![], "/".to_owned()));
        assert_eq!(who("4321:wheel"), (4321, 10, vec![], "/".to_owned()));
        assert_eq!(who("floating").3, "/");
    }

    #[test]
    fn a_name_that_the_image_does_not_have_is_refused_and_never_root() {
        for user in [
            "nobody",
            "broken",
            "4294967295",
            "2147483648",
            "-1",
            "0x0",
            "+0",
            "٠",
        ] {
            assert_eq!(
                resolve(user).unwrap_err().code(),
                "user_not_in_image",
                "{user}"
            );
        }
        for user in ["app:nobody", "0:2147483648", "0:-1"] {
            assert_eq!(
                resolve(user).unwrap_err().code(),
                "group_not_in_image",
                "{user}"
            );
        }
        let bare = User::parse("app").unwrap().resolve(b"", b"");
        assert_eq!(bare.unwrap_err().code(), "user_not_in_image");
    }

    #[test]
    fn what_could_be_read_as_another_user_is_refused() {
        for user in [
            "a:b:c",
            "a b",
            "root\n",
            "a\0",
            "x:y z",
            &"n".repeat(MAX_NAME_BYTES + 1),
        ] {
            assert_eq!(
                User::parse(user).unwrap_err().code(),
                "invalid_user",
                "{user:?}"
            );
        }
    }

    #[test]
    fn accounts_and_groups_past_their_limits_are_refused() {
        let long = vec![b'#'; MAX_ACCOUNTS_BYTES + 1];
        let root = User::parse("root").unwrap();
        assert_eq!(
            root.resolve(&long, b"").unwrap_err().code(),
            "accounts_too_large"
        );
        assert_eq!(
            root.resolve(b"", &long).unwrap_err().code(),
            "accounts_too_large"
        );
        let groups = |count: usize| {
            (1..=count)
                .map(|gid| format!("g{gid}:x:{gid}:root\n"))
                .collect::<String>()
        };
        let resolve = |count| root.resolve(PASSWD.as_bytes(), groups(count).as_bytes());
        assert_eq!(resolve(MAX_GROUPS).unwrap().groups.len(), MAX_GROUPS);
        assert_eq!(
            resolve(MAX_GROUPS + 1).unwrap_err().code(),
            "too_many_groups"
        );
    }

    proptest! {
        #[test]
        fn whatever_the_accounts_are_only_an_account_or_a_number_gives_an_identity(
            user in "[a-z0-9:]{0,8}", passwd in "([a-c0-1]{0,2}:){0,7}\n?([a-c0-1]{0,2}:){0,7}", group: Vec<u8>
        ) {
            let Ok(read) = User::parse(&user) else { return Ok(()) };
            prop_assert_eq!(User::parse(&read.to_string()).unwrap(), read.clone());
            if let Ok(who) = read.resolve(passwd.as_bytes(), &group) {
                prop_assert!(who.uid <= MAX_ID && who.gid <= MAX_ID && who.home.starts_with('/'));
                let has_account = passwd.lines().any(|line| line.starts_with(&format!("{}:", read.user)));
                prop_assert!(id(&read.user).is_some() || has_account);
            }
        }
    }
}
