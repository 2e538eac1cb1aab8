//! The count at the end of chaos: what was asked for beside what is there.

use std::collections::{HashMap, HashSet};
use std::fmt;

/// What was asked for, and what is there.
#[derive(Clone, Debug, Default)]
pub struct Books {
    /// The ids of everything that was asked for, and the addresses, whether or not it was ever accepted.
    pub asked: HashSet<String>,
    /// Those of the entries that were accepted.
    pub logs: HashSet<String>,
    /// Those of the mails that were accepted.
    pub mails: HashSet<String>,
    /// The addresses of the users whose registration was accepted.
    pub registered: HashSet<String>,
    /// Every entry that is there: its id and its name, of which each action has its own.
    pub entries: Vec<(String, String)>,
    /// The address of every user who is there.
    pub users: Vec<String>,
    /// How often each mail was taken by the mail server.
    pub taken: HashMap<String, usize>,
    /// The mails that went out again because nobody could know whether they had: how often that was told of each.
    pub resent: HashMap<String, usize>,
}

/// What comes of comparing them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Actions that were accepted.
    pub accepted: usize,
    /// Effects that are there.
    pub effects: usize,
    /// Accepted, and without an effect.
    pub lost: Vec<String>,
    /// With more than one, and no reason that physics gives.
    pub duplicate: Vec<String>,
    /// Effects that nobody asked for.
    pub phantom: Vec<String>,
    /// Mails that went out again.
    pub resent: usize,
}

impl Books {
    /// Compares them.
    pub fn tally(&self) -> Tally {
        let accepted = self.logs.len() + self.mails.len() + self.registered.len();
        let effects = self.entries.len() + self.taken.len() + self.users.len();
        let mut tally = Tally { accepted, effects, ..Tally::default() };
        let entries: HashSet<&String> = self.entries.iter().map(|(id, _)| id).collect();
        let logs = self.logs.iter().filter(|id| !entries.contains(id));
        let mails = self.mails.iter().filter(|id| !self.taken.contains_key(*id));
        let users = self.registered.iter().filter(|address| !self.users.contains(address));
        tally.lost = logs.chain(mails).chain(users).cloned().collect();
        let mut names = HashSet::new();
        let again = self.entries.iter().filter(|(_, name)| !names.insert(name));
        tally.duplicate = again.map(|(id, _)| id.clone()).collect();
        let mut addresses = HashSet::new();
        tally.duplicate.extend(self.users.iter().filter(|address| !addresses.insert(*address)).cloned());
        for (id, taken) in &self.taken {
            let again = self.resent.get(id).copied().unwrap_or_default();
            if *taken > 1 + again {
                tally.duplicate.push(id.clone());
            }
            tally.resent += (taken - 1).min(again);
        }
        let ids = entries.into_iter().chain(self.taken.keys()).chain(&self.users);
        tally.phantom = ids.filter(|id| !self.asked.contains(*id)).cloned().collect();
        tally
    }
}

impl Tally {
    /// Whether each action had its one effect.
    pub fn is_right(&self) -> bool {
        self.lost.is_empty() && self.duplicate.is_empty() && self.phantom.is_empty()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { accepted, effects, lost, duplicate, phantom, resent } = self;
        write!(
            f,
            "{accepted} accepted, {effects} effects, {} lost, {} duplicate, {} phantom, {resent} mails resent",
            lost.len(),
            duplicate.len(),
            phantom.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn books() -> Books {
        let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
        Books {
            asked: ids(&["a", "b", "c", "m", "n", "u@x.y"]),
            logs: ids(&["a", "b"]),
            mails: ids(&["m"]),
            registered: ids(&["u@x.y"]),
            users: vec!["u@x.y".to_owned()],
            // The answer to `c` was lost, and it was given up.
            entries: ["a", "b", "c"].map(|id| (id.to_owned(), format!("name {id}"))).into(),
            taken: [("m".to_owned(), 1)].into(),
            resent: HashMap::new(),
        }
    }

    #[test]
    fn what_was_accepted_once_and_is_there_once_is_right() {
        let tally = books().tally();
        assert!(tally.is_right(), "{tally}");
        assert_eq!((tally.accepted, tally.effects, tally.resent), (4, 5, 0));
    }

    #[test]
    fn whatever_is_wrong_is_noticed() {
        let mut lost = books();
        lost.entries.remove(0);
        assert_eq!(lost.tally().lost, ["a"]);
        let mut lost = books();
        lost.taken.clear();
        assert_eq!(lost.tally().lost, ["m"]);
        let mut twice = books();
        twice.entries.push(("z".to_owned(), "name a".to_owned()));
        assert_eq!(
            (twice.tally().duplicate, twice.tally().phantom),
            (vec!["z".to_owned()], vec!["z".to_owned()])
        );
        let mut lost = books();
        lost.users.clear();
        assert_eq!(lost.tally().lost, ["u@x.y"]);
        let mut twice = books();
        twice.users.push("u@x.y".to_owned());
        assert_eq!(twice.tally().duplicate, ["u@x.y"]);
        let mut phantom = books();
        phantom.users.push("v@x.y".to_owned());
        assert_eq!(phantom.tally().phantom, ["v@x.y"]);
        let mut phantom = books();
        phantom.taken.insert("x".to_owned(), 1);
        assert_eq!(phantom.tally().phantom, ["x"]);
    }

    #[test]
    fn a_mail_may_go_out_again_only_as_often_as_nobody_could_know() {
        let mut books = books();
        books.taken.insert("m".to_owned(), 2);
        assert_eq!(books.tally().duplicate, ["m"]);
        books.resent.insert("m".to_owned(), 1);
        assert!(books.tally().is_right());
        assert_eq!(books.tally().resent, 1);
        books.taken.insert("m".to_owned(), 3);
        assert_eq!(books.tally().duplicate, ["m"]);
    }
}
