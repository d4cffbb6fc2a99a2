//! What the WebAssembly alone says of a module's functions: equal on every architecture and at every optimisation
//! level.
//!
//! One pass over the body ([`scan`]) validates it and turns it into *events* (uses and definitions of variables,
//! migration points) in basic blocks. Then [`liveness`] tells what is live at every block and point, and [`record`]
//! gives every variable that is live across a point its home. [`entry_polls`] looks at the whole module.
//!
//! **Variables.** Variable 0 is the context pointer, 1.. are the locals, and behind them come operand-stack positions,
//! one per (depth, type), but only those some value occupies *across a migration point*; every other operand stays a
//! plain SSA value.

pub(crate) mod bitset;
pub(crate) mod calling_convention;
mod context_use;
pub(crate) mod control_walk;
pub(crate) mod entry_polls;
pub(crate) mod liveness;
pub(crate) mod loops;
pub(crate) mod record;
pub(crate) mod scan;
mod vector_operators;

use crate::error::Error;
use crate::limits::MAX_LIVENESS_BITS;
use bitset::BitTable;
use dunlin_format::framemap::{FunctionPoints, LiveSets};
use dunlin_format::types::FuncType;
use record::Record;
use scan::{Request, Scan};
use wasmparser::{FuncValidator, FunctionBody, ValidatorResources};

/// Index of a variable.
pub(crate) type Var = u32;
/// Index of a basic block.
pub(crate) type BlockId = u32;

/// The context pointer's variable.
pub(crate) const CTX: Var = 0;
/// "No variable", "no block", "no point".
pub(crate) const NONE: u32 = u32::MAX;

/// What is known of a function before anything is chosen for it.
#[derive(Debug)]
pub(crate) struct Analysis<'a> {
    /// Operators, variables, blocks and points.
    pub scan: Scan<'a>,
    /// The variables live across each point, in the points' order.
    pub live: LiveSets,
    /// The variables live at the start of every block; nothing if the function has no points.
    pub live_in: BitTable,
    /// Homes of the variables that are live across some point.
    pub record: Record,
}

/// Validates and analyses a body. Also returns the part of its frame map that is equal on every architecture.
pub(crate) fn analyze<'a>(
    rq: Request<'_>,
    ty: &FuncType,
    body: &FunctionBody<'a>,
    validator: &mut FuncValidator<ValidatorResources>,
) -> Result<(Analysis<'a>, FunctionPoints), Error> {
    let scan = scan::scan(rq, ty, body, validator)?;
    let mut live_in = BitTable::default();
    let mut live = LiveSets::default();
    if !scan.points.is_empty() {
        check_size(&scan, body)?;
        live_in = liveness::live_in(&scan);
        live = liveness::at_points(&scan, &live_in);
    }
    let record = Record::new(&scan.vars, live.ever());
    let map = record::frame_map(&scan, &record, &live);
    let analysis = Analysis {
        scan,
        live,
        live_in,
        record,
    };
    Ok((analysis, map))
}

/// A function with a million branches *and* tens of thousands of locals is refused rather than tried.
fn check_size(s: &Scan, body: &FunctionBody<'_>) -> Result<(), Error> {
    let (blocks, vars) = (s.blocks.len() as u64, s.vars.len() as u64);
    if blocks * vars > MAX_LIVENESS_BITS {
        let what = format!(
            "the function at {:#x}, which has {blocks} branches times {vars} variables,",
            body.range().start
        );
        return Err(Error::TooLarge {
            what,
            size: blocks * vars / 8,
            max: MAX_LIVENESS_BITS / 8,
        });
    }
    Ok(())
}
