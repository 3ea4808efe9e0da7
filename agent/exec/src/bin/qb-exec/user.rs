//! The agent's user.

use std::str::FromStr;

/// Where the machine's own users are: a package's user is never in a directory service.
const PASSWD: &str = "/etc/passwd";

/// A user by its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct User {
    /// Its number.
    pub(crate) uid: u32,
    /// The number of its group; none if only the user's was given.
    pub(crate) gid: Option<u32>,
}

/// A user by number or name, as an option names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UserName(String);

impl FromStr for UserName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fits = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        let good = (1..=32).contains(&text.len()) && text.chars().all(fits);
        if good { Ok(Self(text.to_owned())) } else { Err("a user's name or number".to_owned()) }
    }
}

impl UserName {
    /// The user of this machine.
    pub(crate) fn find(&self) -> anyhow::Result<User> {
        if let Ok(uid) = self.0.parse() {
            return Ok(User { uid, gid: None });
        }
        let passwd = std::fs::read_to_string(PASSWD)?;
        in_passwd(&passwd, &self.0).ok_or_else(|| {
            anyhow::anyhow!(
                "there is no user {0} on this machine: install the package again, which makes it, or give another --agent-user",
                self.0
            )
        })
    }
}

/// `qb:x:995:993:qb agent:/var/lib/qb/agent:/usr/sbin/nologin`.
fn in_passwd(passwd: &str, name: &str) -> Option<User> {
    let mut lines = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let line = lines.find(|fields| fields.first() == Some(&name))?;
    Some(User { uid: line.get(2)?.parse().ok()?, gid: Some(line.get(3)?.parse().ok()?) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn users_are_found_by_their_whole_name() {
        let passwd =
            "root:x:0:0:root:/root:/bin/sh\nqb-relay:x:994:992::/:/bin/false\nqb:x:995:993:agent:/:/x\n";
        assert_eq!(in_passwd(passwd, "qb"), Some(User { uid: 995, gid: Some(993) }));
        assert_eq!(in_passwd(passwd, "q"), None);
        assert_eq!(in_passwd("qb:x\n", "qb"), None);
        assert_eq!("1000".parse::<UserName>().unwrap().find().unwrap(), User { uid: 1000, gid: None });
        assert!("a b".parse::<UserName>().is_err() && "".parse::<UserName>().is_err());
    }
}
