//! What a snapshot may not say of carried files.

use super::*;

fn node(path: &str, kind: NodeKind) -> Node {
    Node {
        grant: 0,
        path: path.into(),
        kind,
        mode: 0o644,
        modified: 1,
    }
}

fn file(path: &str) -> Node {
    node(path, NodeKind::File { content: 0 })
}

fn link(path: &str, target: &str) -> Node {
    node(path, NodeKind::Symlink { target: target.into() })
}

/// A directory with a file, a link to it and another name of it.
fn good() -> Files {
    let bytes = b"text";
    Files {
        modes: vec![GrantMode::CarryAll],
        chunks: vec![Chunk {
            hash: ContentHash::of(bytes),
            len: 4,
            stored: true,
        }],
        contents: vec![Content {
            len: 4,
            parts: vec![Part {
                hole: 0,
                first: 0,
                count: 1,
            }],
        }],
        nodes: vec![
            node("d", NodeKind::Directory),
            file("d/f"),
            link("d/l", "../d/f"),
            node("e", NodeKind::HardLink { to: 1 }),
        ],
        removed: vec![(0, "d/gone".into()), (0, "was".into())],
        unlinked: vec![Unlinked {
            grant: 0,
            content: 0,
            mode: 0o600,
            modified: 2,
        }],
        ..Files::default()
    }
}

#[test]
fn what_can_be_is_accepted() {
    assert_eq!(good().check(1), Ok(()));
    assert_eq!(Files::default().check(0), Ok(()));
    assert!(Files::default().is_empty() && !good().is_empty());
    assert_eq!(good().stored_len(), 4);
    assert_eq!(good().without_times().nodes[0].modified, 0);
}

#[test]
fn what_can_not_be_is_refused() {
    type Lie<'a> = (&'a str, &'a dyn Fn(&mut Files));
    let lies: [Lie<'_>; 30] = [
        ("an absolute path", &|f| f.nodes[3].path = "/etc/passwd".into()),
        ("a path upwards", &|f| f.nodes[3].path = "e/../../x".into()),
        ("a path that begins upwards", &|f| f.nodes[3].path = "../x".into()),
        ("two slashes", &|f| f.nodes[1].path = "d//f".into()),
        ("a slash at the end", &|f| f.nodes[1].path = "d/f/".into()),
        ("a dot", &|f| f.nodes[1].path = "d/./f".into()),
        ("the grant itself", &|f| f.nodes[0].path = String::new()),
        ("a NUL", &|f| f.nodes[3].path = "e\0".into()),
        ("a name too long", &|f| f.nodes[3].path = "e".repeat(256)),
        ("a path too long", &|f| f.nodes[3].path = "e/".repeat(3000) + "e"),
        ("a file twice", &|f| f.nodes.insert(2, file("d/f"))),
        ("out of order", &|f| f.nodes.swap(1, 2)),
        ("a file in a link", &|f| f.nodes.insert(3, file("d/l/x"))),
        ("a file in a file", &|f| f.nodes.insert(2, file("d/f/x"))),
        ("a file in nothing", &|f| f.nodes.push(file("x/y"))),
        ("no such contents", &|f| f.nodes[1].kind = NodeKind::File { content: 1 }),
        ("set-user-id", &|f| f.nodes[1].mode = 0o4755),
        ("another grant", &|f| f.nodes[3].grant = 1),
        ("a shared grant", &|f| f.modes[0] = GrantMode::Shared),
        ("more modes than grants", &|f| f.modes.push(GrantMode::Carry)),
        ("an absolute link", &|f| f.nodes[2] = link("d/l", "/etc/passwd")),
        ("an empty link", &|f| f.nodes[2] = link("d/l", "")),
        ("another name of a later file", &|f| {
            f.nodes[3].kind = NodeKind::HardLink { to: 4 }
        }),
        ("another name of a directory", &|f| {
            f.nodes[3].kind = NodeKind::HardLink { to: 0 }
        }),
        ("a chunk twice", &|f| f.chunks.push(f.chunks[0])),
        ("contents of nothing", &|f| f.contents[0].parts[0].first = 1),
        ("contents without end", &|f| f.contents[0].len = u64::MAX),
        ("removed and there", &|f| f.removed = vec![(0, "d/f".into())]),
        ("removed outside", &|f| f.removed = vec![(0, "../x".into())]),
        ("an unlinked file of no grant", &|f| f.unlinked[0].grant = 1),
    ];
    for (what, lie) in lies {
        let mut files = good();
        lie(&mut files);
        assert!(files.check(1).is_err(), "{what} was accepted");
    }
    let mut files = good();
    let half = Content {
        len: MAX_CONTENTS / 2,
        parts: vec![],
    };
    files.contents = vec![half; 3];
    assert_eq!(files.check(1), Err(FilesError::TooMany("bytes")));
}
