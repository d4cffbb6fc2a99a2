//! What came of the suite: one line for each folder, and a sum.

use std::collections::BTreeMap;

/// The ways in which cases are run: as they are, with forced migration, and with that before every operator.
pub const MODES: [&str; 6] = [
    "x86_64",
    "x86_64 forced",
    "x86_64 dense",
    "aarch64",
    "aarch64 forced",
    "aarch64 dense",
];

/// Numbers of one folder.
#[derive(Clone, Copy, Debug, Default)]
pub struct Row {
    /// Scripts, but for those that are equal to another's.
    pub scripts: usize,
    /// Instances that were run.
    pub modules: usize,
    /// Those of them that were linked with others.
    pub linked: usize,
    /// Instances whose case is equal to one of another script.
    pub repeated: usize,
    /// Assertions that held and that did not, in each of [`MODES`].
    pub run: [(usize, usize); 6],
    /// Points passed in each of them, and migrations there.
    pub points: [(u64, u64); 6],
    /// Modules that must be refused: those that were, and those that were not.
    pub refused: (usize, usize),
    /// Imports that must not fit: those that the linker found so, and the others.
    pub unlinkable: (usize, usize),
    /// Modules that were left out, and the assertions that went with them.
    pub left_out: (usize, usize),
}

impl Row {
    fn add(&mut self, other: &Row) {
        let pair = |a: &mut (usize, usize), b: (usize, usize)| *a = (a.0 + b.0, a.1 + b.1);
        self.scripts += other.scripts;
        self.modules += other.modules;
        self.linked += other.linked;
        self.repeated += other.repeated;
        self.run.iter_mut().zip(other.run).for_each(|(a, b)| pair(a, b));
        for (a, b) in self.points.iter_mut().zip(other.points) {
            *a = (a.0 + b.0, a.1 + b.1);
        }
        pair(&mut self.refused, other.refused);
        pair(&mut self.unlinkable, other.unlinkable);
        pair(&mut self.left_out, other.left_out);
    }

    fn line(&self, name: &str) -> String {
        let pair = |(good, bad): (usize, usize)| {
            if bad == 0 {
                format!("{good}")
            } else {
                format!("{good}, {bad} FAILED")
            }
        };
        let mut cells = vec![name.to_owned()];
        cells.extend([self.scripts, self.modules, self.linked, self.repeated].map(|n| n.to_string()));
        for (run, (points, migrations)) in self.run.into_iter().zip(self.points) {
            cells.push(match points {
                0 => pair(run),
                _ if points == migrations => format!("{} (all {points})", pair(run)),
                _ => format!("{} ({migrations} of {points})", pair(run)),
            });
        }
        cells.extend([self.refused, self.unlinkable].map(pair));
        cells.push(format!("{} ({})", self.left_out.0, self.left_out.1));
        format!("| {} |", cells.join(" | "))
    }
}

/// The table: assertions that held, in parentheses the migrations at how many points passed.
pub fn table(rows: &BTreeMap<String, Row>) -> String {
    let mut head = vec!["folder", "scripts", "modules", "linked", "repeated"];
    head.extend(MODES);
    head.extend(["refused", "unlinkable", "left out (assertions)"]);
    let mut out = format!("| {} |\n|{}\n", head.join(" | "), "---|".repeat(head.len()));
    let mut sum = Row::default();
    for (name, row) in rows {
        out.push_str(&row.line(name));
        out.push('\n');
        sum.add(row);
    }
    out.push_str(&sum.line("all"));
    out
}
