//! Directory trees as values, to compare what two runs left behind.

use std::collections::BTreeMap;
use std::path::Path;

/// What a path in a tree is.
#[derive(Clone, PartialEq, Eq)]
pub enum Node {
    /// A directory.
    Dir,
    /// A regular file's bytes.
    File(Vec<u8>),
    /// Anything else.
    Other,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Node::Dir => write!(f, "dir"),
            Node::File(b) if b.len() <= 200 => write!(f, "file {:?}", String::from_utf8_lossy(b)),
            Node::File(b) => write!(f, "file of {} bytes", b.len()),
            Node::Other => write!(f, "other"),
        }
    }
}

/// Every path below a directory.
pub fn tree(dir: &Path) -> BTreeMap<String, Node> {
    let mut all = BTreeMap::new();
    walk(dir, "", &mut all);
    all
}

fn walk(dir: &Path, prefix: &str, all: &mut BTreeMap<String, Node>) {
    for entry in std::fs::read_dir(dir).unwrap_or_else(|e| panic!("cannot read {}: {e}", dir.display())) {
        let entry = entry.expect("a directory entry");
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let kind = entry.file_type().expect("a file type");
        if kind.is_dir() {
            walk(&entry.path(), &format!("{name}/"), all);
            all.insert(name, Node::Dir);
        } else if kind.is_file() {
            all.insert(name, Node::File(std::fs::read(entry.path()).expect("a readable file")));
        } else {
            all.insert(name, Node::Other);
        }
    }
}
