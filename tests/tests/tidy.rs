//! The house stays as ARCHITECTURE.md shows it: what depends on what, what lies where, and what every file says of
//! itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a file, at most; those that are longer are listed with what they have, and may only shrink.
const MOST_LINES: usize = 600;

/// Columns of a line, at most; one that quotes something may be longer.
const MOST_COLUMNS: usize = 120;

/// Files that are too long.
const LONG: [(&str, usize); 1] = [("tests/tests/hostile.rs", 630)];

/// Files and folders on one level of the runtime's sources, at most.
const MOST_ON_A_LEVEL: usize = 12;

/// What each crate may use of the others.
const CRATES: [(&str, &[&str]); 11] = [
    ("format", &[]),
    ("handover", &[]),
    ("migrate", &["format"]),
    ("interface", &["format", "migrate"]),
    ("compiler", &["format"]),
    ("transfer", &["format", "handover", "migrate"]),
    ("runtime", &["format", "handover", "interface", "migrate", "transfer"]),
    ("trust", &[]),
    (
        "cli",
        &[
            "compiler",
            "format",
            "handover",
            "interface",
            "migrate",
            "transfer",
            "trust",
        ],
    ),
    ("tests", &["format", "migrate"]),
    ("fuzz", &["compiler", "format", "migrate"]),
];

/// The files that may have `unsafe` in them: they own raw memory or registers, or deal with signals.
const UNSAFE: [&str; 25] = [
    "runtime/src/engine/backend.rs",
    "runtime/src/engine/dispatch.rs",
    "runtime/src/engine/native/faults.rs",
    "runtime/src/engine/native/mod.rs",
    "runtime/src/engine/pulley/mod.rs",
    "runtime/src/engine/running.rs",
    "runtime/src/instance/interpreter_stack.rs",
    "runtime/src/instance/memory.rs",
    "runtime/src/instance/mod.rs",
    "runtime/src/instance/stack.rs",
    "runtime/src/journal/seen.rs",
    "runtime/src/os/linux/pages/dirty.rs",
    "runtime/src/os/linux/faults.rs",
    "runtime/src/os/linux/fork.rs",
    "runtime/src/os/linux/lease.rs",
    "runtime/src/os/linux/machine.rs",
    "runtime/src/os/linux/registers.rs",
    "runtime/src/os/linux/pages/residency.rs",
    "runtime/src/os/linux/signals.rs",
    "runtime/src/os/linux/space.rs",
    "runtime/src/os/linux/pages/unverified.rs",
    "runtime/src/os/wake.rs",
    "runtime/src/program/embedded.rs",
    "runtime/src/requests/checkpoint_on.rs",
    "tests/tests/forged.rs",
];

/// Names that only some folders may use: what calls the operating system by itself, and what knows the machine or the
/// interpreter.
const CONFINED: [(&[&str], &str, &[&str]); 4] = [
    (
        &["rustix", "libc"],
        "runtime/src/",
        &["runtime/src/journal/", "runtime/src/os/linux/", "runtime/src/wasi/"],
    ),
    (
        &["target_arch", "X86_64", "Aarch64"],
        "runtime/src/",
        &["runtime/src/engine/native/", "runtime/src/os/linux/registers.rs"],
    ),
    (
        &["pulley_interpreter", "Pulley64", "Pulley32"],
        "runtime/src/",
        &[
            "runtime/src/engine/pulley/",
            "runtime/src/instance/interpreter_stack.rs",
        ],
    ),
    (
        &["target_arch", "X86_64", "Aarch64"],
        "migrate/src/",
        &["migrate/src/testing.rs"],
    ),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .expect("the workspace is there")
}

/// Every file of the project, by its path from the root: without what is built and what is hidden.
fn files() -> BTreeSet<String> {
    fn walk(root: &Path, dir: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(dir).expect("a directory can be read") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with('.') || path == root.join("target") {
                continue;
            }
            match path.is_dir() {
                true => walk(root, &path, found),
                false => {
                    let below = path.strip_prefix(root).expect("it lies below");
                    found.insert(below.to_string_lossy().into_owned());
                }
            }
        }
    }
    let mut found = BTreeSet::new();
    walk(&root(), &root(), &mut found);
    found
}

fn sources() -> Vec<(String, String)> {
    let rust = files().into_iter().filter(|f| f.ends_with(".rs"));
    rust.map(|f| (f.clone(), fs::read_to_string(root().join(&f)).expect("text")))
        .collect()
}

#[track_caller]
fn none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

/// A source without its comments, and without the tests at its end.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let line = |line: &str| line.split("//").next().unwrap_or_default().to_owned() + "\n";
    text.lines().map(line).collect()
}

#[test]
fn crates_depend_downward() {
    for (name, allowed) in CRATES {
        let manifest = fs::read_to_string(root().join(name).join("Cargo.toml")).expect("a manifest");
        let used = manifest
            .lines()
            .filter_map(|l| l.strip_prefix("dunlin-")?.split('.').next());
        let wrong: Vec<String> = used.filter(|u| !allowed.contains(u)).map(str::to_owned).collect();
        none(&format!("{name} must not depend on"), &wrong);
    }
    let workspace = fs::read_to_string(root().join("Cargo.toml")).expect("a manifest");
    let members = workspace
        .lines()
        .find_map(|l| l.strip_prefix("members = "))
        .expect("members");
    let mut members: Vec<&str> = members.split('"').skip(1).step_by(2).collect();
    let mut known = CRATES.map(|(name, _)| name).to_vec();
    members.sort_unstable();
    known.sort_unstable();
    assert_eq!(members, known, "every crate is in the table above");
}

/// Which module at a crate's top uses which other one.
fn uses(crate_name: &str, sources: &[(String, String)]) -> BTreeMap<String, BTreeSet<String>> {
    let prefix = format!("{crate_name}/src/");
    let below = |file: &str| file.strip_prefix(&prefix).map(str::to_owned);
    let top = |below: &str| {
        below
            .split('/')
            .next()
            .unwrap_or_default()
            .trim_end_matches(".rs")
            .to_owned()
    };
    let files: Vec<(String, &String)> = sources.iter().filter_map(|(f, text)| Some((below(f)?, text))).collect();
    let modules: BTreeSet<String> = files.iter().map(|(f, _)| top(f)).collect();
    let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (file, text) in files {
        let own = top(&file);
        if file.ends_with("tests.rs")
            || ["main", "lib", "testing", "golden"].contains(&own.as_str()) && !file.contains('/')
        {
            continue;
        }
        let code = code(text);
        for part in code.split("crate::").skip(1) {
            let names = match part.strip_prefix('{') {
                Some(group) => group.split('}').next().unwrap_or_default(),
                None => part
                    .split(|c: char| !(c.is_alphanumeric() || c == '_'))
                    .next()
                    .unwrap_or_default(),
            };
            for name in names.split(|c: char| !(c.is_alphanumeric() || c == '_')) {
                if modules.contains(name) && name != own {
                    uses.entry(own.clone()).or_default().insert(name.to_owned());
                }
            }
        }
    }
    uses
}

/// Everything that can be reached from a module.
fn reach(uses: &BTreeMap<String, BTreeSet<String>>, from: &str) -> BTreeSet<String> {
    let (mut found, mut pending) = (BTreeSet::new(), vec![from.to_owned()]);
    while let Some(next) = pending.pop() {
        for used in uses.get(&next).into_iter().flatten() {
            if found.insert(used.clone()) {
                pending.push(used.clone());
            }
        }
    }
    found
}

#[test]
fn no_circle_of_imports_crosses_a_folder() {
    let sources = sources();
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (name, _) in CRATES {
        let uses = uses(name, &sources);
        seen += uses.len();
        for module in uses.keys() {
            if root().join(name).join("src").join(module).is_dir() && reach(&uses, module).contains(module) {
                let circle = reach(&uses, module);
                let circle: Vec<&String> = circle.iter().filter(|m| reach(&uses, m).contains(module)).collect();
                wrong.push(format!("{name}/src/{module}: {circle:?}"));
            }
        }
    }
    none("folders that their own imports lead back to", &wrong);
    assert!(seen > 50, "the imports of {seen} modules were found");
}

#[test]
fn a_circle_is_found() {
    let sources = [
        ("x/src/a/mod.rs", "use crate::b::C;"),
        ("x/src/b.rs", "use crate::{c, d};"),
        ("x/src/c.rs", "crate::a::f()"),
    ];
    let sources = sources.map(|(f, t)| (f.to_owned(), t.to_owned()));
    assert!(reach(&uses("x", &sources), "a").contains("a"));
    assert!(!reach(&uses("x", &sources[..2]), "a").contains("a"));
}

#[test]
fn every_file_says_what_lives_there_and_is_short() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        if !text.starts_with("//! ") {
            wrong.push(format!("{file} doesn't begin with a `//!` line"));
        }
        let most = LONG
            .iter()
            .find(|(f, _)| *f == file)
            .map_or(MOST_LINES, |(_, lines)| *lines);
        if text.lines().count() > most {
            wrong.push(format!("{file} has {} lines, more than {most}", text.lines().count()));
        }
        // In what is quoted (a guest's WebAssembly, a message) and in tables, the column is not ours to choose.
        let mut quoted = false;
        let mut table = false;
        for (number, line) in (1..).zip(text.lines()) {
            let comment = line.trim_start().starts_with("//");
            table ^= comment && line.contains("```");
            let free = table || quoted || line.contains('|') || (!comment && line.contains('"'));
            if line.chars().count() > MOST_COLUMNS && !free {
                wrong.push(format!("{file}:{number} has more than {MOST_COLUMNS} columns"));
            }
            if !comment && (line.matches("r#\"").count() != line.matches("\"#").count()) {
                quoted = line.contains("r#\"");
            }
        }
    }
    none("files", &wrong);
}

#[test]
fn unsafe_is_where_it_is_expected() {
    let found: BTreeSet<String> = sources()
        .into_iter()
        .filter(|(file, text)| !file.ends_with("tidy.rs") && code(text).contains("unsafe "))
        .map(|(file, _)| file)
        .collect();
    let expected = UNSAFE.map(str::to_owned);
    assert_eq!(found, BTreeSet::from(expected));
}

/// Does a text have this name in it, not as a part of another?
fn has_name(text: &str, name: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(name).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + name.len()..]);
        !before.ends_with(part) && !after.starts_with(part)
    })
}

#[test]
fn systems_and_machines_are_known_where_expected() {
    let sources = sources();
    for (names, under, places) in CONFINED {
        let mut wrong = Vec::new();
        let mut used = BTreeSet::new();
        for (file, text) in sources.iter().filter(|(file, _)| file.starts_with(under)) {
            let code = code(text);
            let place = places.iter().find(|place| file.starts_with(**place));
            for name in names.iter().filter(|name| has_name(&code, name)) {
                match place {
                    Some(place) => drop(used.insert(*place)),
                    None => wrong.push(format!("{file}: {name}")),
                }
            }
        }
        none(
            &format!("names that {under} has in other places than {places:?}"),
            &wrong,
        );
        assert_eq!(
            used,
            places.iter().copied().collect(),
            "each of these places needs one of {names:?}"
        );
    }
    assert!(has_name("use libc;", "libc") && has_name("libc::x", "libc") && !has_name("my_libc libcx", "libc"));
}

#[test]
fn levels_are_small() {
    let mut levels: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in files() {
        let Some(below) = file.strip_prefix("runtime/src/") else {
            continue;
        };
        let parts: Vec<&str> = below.split('/').collect();
        for depth in 0..parts.len() {
            let level = levels.entry(parts[..depth].join("/")).or_default();
            level.insert(parts[depth].to_owned());
        }
    }
    let crowded = levels.iter().filter(|(_, entries)| entries.len() > MOST_ON_A_LEVEL);
    let crowded: Vec<String> = crowded
        .map(|(level, e)| format!("runtime/src/{level}: {}", e.len()))
        .collect();
    none("folders with too much on one level", &crowded);
    assert!(levels.len() > 9, "{} levels were found", levels.len());
}

#[test]
fn what_documents_name_is_there() {
    let files = files();
    let mut wrong = Vec::new();
    for document in [
        "ARCHITECTURE.md",
        "README.md",
        "bench/README.md",
        "fuzz/README.md",
        "tests/README.md",
    ] {
        let text = fs::read_to_string(root().join(document)).expect("a document");
        for name in text.split('`').skip(1).step_by(2) {
            let plain = name.chars().all(|c| c.is_alphanumeric() || "_-./".contains(c));
            let source =
                plain && (name.ends_with(".rs") || CRATES.iter().any(|(c, _)| name.starts_with(&format!("{c}/"))));
            let end = format!("/{name}");
            let is_there = root().join(name).exists() || files.iter().any(|f| f.ends_with(&end));
            if source && !is_there {
                wrong.push(format!("{document}: {name}"));
            }
        }
    }
    none("paths that are not there", &wrong);
}
