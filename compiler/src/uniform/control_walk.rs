//! What the two walks over a function's operators have in common: the scan's, which finds blocks and points, and the
//! translation's, which makes code for them. Both keep WebAssembly's operand stack and control stack; that they agree
//! is checked at each migration point and at the end ([`WalkPosition`]).

use wasmparser::Catch;

/// Kinds of constructs on the control stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ConstructKind {
    /// The function itself.
    Func,
    /// `block`.
    Block,
    /// `loop`.
    Loop,
    /// `if`, before its `else`.
    If,
    /// `if`, behind its `else`.
    Else,
    /// `try_table`.
    TryTable,
    /// The legacy `try`, before its first clause.
    Try,
    /// The legacy `try`, behind a `catch` or `catch_all`.
    Catch,
}

impl ConstructKind {
    /// Whether exceptions that are thrown in the open part of such a construct arrive at its pad.
    pub(crate) fn handles_exceptions(self) -> bool {
        matches!(self, ConstructKind::TryTable | ConstructKind::Try)
    }
}

/// A clause of a `try_table`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CatchClause {
    /// The tag whose exceptions it takes, with their payload; none if it takes all, without.
    pub tag: Option<u32>,
    /// Depth of the construct that it branches to.
    pub label: u32,
    /// Whether the branch carries a reference to the exception, behind the payload.
    pub by_reference: bool,
}

impl From<&Catch> for CatchClause {
    fn from(catch: &Catch) -> CatchClause {
        let (tag, label, by_reference) = match *catch {
            Catch::One { tag, label } => (Some(tag), label, false),
            Catch::OneRef { tag, label } => (Some(tag), label, true),
            Catch::All { label } => (None, label, false),
            Catch::AllRef { label } => (None, label, true),
        };
        CatchClause {
            tag,
            label,
            by_reference,
        }
    }
}

/// Where a walk stands. At a point where the two walks differ, the frame map would describe another frame than the code
/// makes: an internal error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WalkPosition {
    /// Constructs that are open.
    pub constructs: u32,
    /// Operands on the stack.
    pub operands: u32,
    /// Operands pushed since the function began.
    pub pushed: u32,
}

impl WalkPosition {
    /// A position, from the lengths of what a walk keeps.
    pub(crate) fn new(constructs: usize, operands: usize, pushed: usize) -> WalkPosition {
        WalkPosition {
            constructs: constructs as u32,
            operands: operands as u32,
            pushed: pushed as u32,
        }
    }
}
