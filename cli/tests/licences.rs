//! Every dependency's licence is one that `deny.toml` allows: what `cargo deny check licenses` checks, without
//! cargo-deny.

use std::path::Path;
use std::process::Command;

/// The quoted strings of the `allow` list of `deny.toml`'s `[licenses]` section.
fn allowed(deny: &str) -> Vec<String> {
    let section = deny
        .split("[licenses]")
        .nth(1)
        .expect("deny.toml has a [licenses] section");
    let list = section
        .split("allow = [")
        .nth(1)
        .and_then(|l| l.split(']').next())
        .expect("it has an allow list");
    list.split('"').skip(1).step_by(2).map(String::from).collect()
}

/// Does an SPDX expression (or Cargo's old "A / B") hold if exactly the allowed licences are acceptable? `AND` binds
/// tighter.
fn acceptable(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let (value, rest) = or(&words, allowed);
    value && rest.is_empty()
}

fn or<'a>(words: &'a [&'a str], allowed: &[String]) -> (bool, &'a [&'a str]) {
    let (mut value, mut rest) = and(words, allowed);
    while let ["OR", more @ ..] = rest {
        let (right, after) = and(more, allowed);
        (value, rest) = (value | right, after);
    }
    (value, rest)
}

fn and<'a>(words: &'a [&'a str], allowed: &[String]) -> (bool, &'a [&'a str]) {
    let (mut value, mut rest) = one(words, allowed);
    while let ["AND", more @ ..] = rest {
        let (right, after) = one(more, allowed);
        (value, rest) = (value & right, after);
    }
    (value, rest)
}

fn one<'a>(words: &'a [&'a str], allowed: &[String]) -> (bool, &'a [&'a str]) {
    match words {
        ["(", inner @ ..] => match or(inner, allowed) {
            (value, [")", rest @ ..]) => (value, rest),
            (_, rest) => (false, rest),
        },
        [licence, "WITH", exception, rest @ ..] => (allowed.contains(&format!("{licence} WITH {exception}")), rest),
        [licence, rest @ ..] => (allowed.iter().any(|a| a == licence), rest),
        [] => (false, words),
    }
}

#[test]
fn expressions_are_understood() {
    let allowed = [
        "MIT".to_owned(),
        "Apache-2.0 WITH LLVM-exception".to_owned(),
        "Zlib".to_owned(),
    ];
    for good in [
        "MIT",
        "GPL-3.0 OR MIT",
        "MIT / Apache-2.0",
        "(MIT OR GPL-2.0) AND Zlib",
        "Apache-2.0 WITH LLVM-exception",
    ] {
        assert!(acceptable(good, &allowed), "{good}");
    }
    for bad in [
        "",
        "GPL-3.0",
        "Apache-2.0",
        "MIT AND GPL-3.0",
        "GPL-3.0 OR BSL-1.0",
        "(MIT",
        "MIT MIT",
        "MIT AND GPL-3.0 OR BSL-1.0",
    ] {
        assert!(!acceptable(bad, &allowed), "{bad}");
    }
}

#[test]
fn every_dependency_has_an_allowed_licence() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let allowed = allowed(&std::fs::read_to_string(root.join("deny.toml")).expect("deny.toml is there"));
    assert!(allowed.len() > 1, "{allowed:?}");
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1"])
        .current_dir(&root)
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let packages = metadata["packages"].as_array().expect("it lists packages");
    assert!(packages.len() > 20, "only {} packages listed", packages.len());
    let bad: Vec<_> = packages
        .iter()
        .filter(|p| !p["license"].as_str().is_some_and(|l| acceptable(l, &allowed)))
        .collect();
    let bad: Vec<_> = bad
        .iter()
        .map(|p| format!("{} {}: {}", p["name"], p["version"], p["license"]))
        .collect();
    assert!(bad.is_empty(), "not allowed by deny.toml:\n{}", bad.join("\n"));
}
