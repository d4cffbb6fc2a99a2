//! Which functions poll at their entry: so many that no recursion runs without a poll, and that calls of calls of calls
//! don't run for long without one. A call through a table or reference may reach every function of its type that
//! something refers to.

use crate::error::Error;
use crate::limits::{BULK_OPERATORS, MAX_OPERATORS_WITHOUT_POLL};
use crate::module::Module;
use wasmparser::Operator;

/// For every function, whether it polls at its entry.
pub(crate) fn entry_polls(module: &Module<'_>) -> Result<Vec<bool>, Error> {
    let graph = Graph::of(module)?;
    let mut polls = graph.cut_cycles();
    graph.limit_work(&mut polls);
    Ok(polls)
}

/// Nodes are functions, and behind them a node for each type index, which stands for all calls through tables and
/// references.
struct Graph {
    funcs: usize,
    /// Where calls go, in code order; from a type's node to every function that may be called so.
    edges: Vec<Vec<u32>>,
    /// Each function's own operators.
    work: Vec<u32>,
}

/// A step of a walk in depth-first order.
enum Step {
    /// An edge to a node that the walk has come through to get here: it closes a cycle.
    Back(u32, u32),
    /// A node all of whose edges have been followed.
    Done(u32),
}

impl Graph {
    /// The call graph of a module's functions.
    fn of(module: &Module<'_>) -> Result<Graph, Error> {
        let funcs = module.info.funcs.len();
        let mut edges: Vec<Vec<u32>> = vec![vec![]; funcs + module.info.types.len()];
        let mut work = vec![1u32; funcs];
        let mut taken = module.address_taken.clone();
        let type_node = |ty: u32| funcs as u32 + module.info.canonical[ty as usize];
        for b in &module.bodies {
            let out = &mut edges[b.func as usize];
            let work = &mut work[b.func as usize];
            for op in b.body.get_operators_reader()? {
                let op = op?;
                *work = work.saturating_add(if is_bulk(&op) { BULK_OPERATORS } else { 1 });
                match op {
                    Operator::Call { function_index } | Operator::ReturnCall { function_index }
                        if (function_index as usize) < funcs =>
                    {
                        out.push(function_index);
                    }
                    Operator::RefFunc { function_index } if (function_index as usize) < funcs => {
                        taken[function_index as usize] = true;
                    }
                    Operator::CallIndirect { type_index, .. }
                    | Operator::ReturnCallIndirect { type_index, .. }
                    | Operator::CallRef { type_index }
                    | Operator::ReturnCallRef { type_index }
                        if (type_index as usize) < module.info.canonical.len() =>
                    {
                        out.push(type_node(type_index));
                    }
                    _ => {}
                }
            }
        }
        for b in module.bodies.iter().filter(|b| taken[b.func as usize]) {
            edges[type_node(module.info.funcs[b.func as usize]) as usize].push(b.func);
        }
        Ok(Graph { funcs, edges, work })
    }

    /// Walks the whole graph in depth-first order, without recursion, along the edges to nodes that `enters` admits.
    fn walk(&self, enters: impl Fn(u32) -> bool, mut step: impl FnMut(Step)) {
        let n = self.edges.len();
        let (mut seen, mut open) = (vec![false; n], vec![false; n]);
        let mut path: Vec<(u32, usize)> = vec![];
        for root in 0..n as u32 {
            if !seen[root as usize] {
                path.push((root, 0));
            }
            while let Some((v, k)) = path.pop() {
                (seen[v as usize], open[v as usize]) = (true, true);
                let Some(&w) = self.edges[v as usize].get(k) else {
                    open[v as usize] = false;
                    step(Step::Done(v));
                    continue;
                };
                path.push((v, k + 1));
                if enters(w) && open[w as usize] {
                    step(Step::Back(v, w));
                } else if enters(w) && !seen[w as usize] {
                    path.push((w, 0));
                }
            }
        }
    }

    /// Functions such that every cycle goes through one of them. (Every cycle has a `Back` edge; both its ends are on
    /// the cycle.)
    fn cut_cycles(&self) -> Vec<bool> {
        let mut polls = vec![false; self.funcs];
        let mut callers: Vec<Vec<u32>> = vec![vec![]; self.edges.len() - self.funcs];
        self.walk(
            |_| true,
            |step| match step {
                Step::Back(_, w) if (w as usize) < self.funcs => polls[w as usize] = true,
                Step::Back(v, w) => callers[w as usize - self.funcs].push(v),
                Step::Done(_) => {}
            },
        );
        // A type polls nowhere. Either its callers do, or the functions that they may call: whichever are fewer.
        for (callers, callees) in callers.iter_mut().zip(&self.edges[self.funcs..]) {
            callers.sort_unstable();
            callers.dedup();
            let more = |of: &[u32]| of.iter().filter(|f| !polls[**f as usize]).count();
            let chosen = if more(callers) <= more(callees) {
                callers
            } else {
                callees
            };
            chosen.iter().for_each(|f| polls[*f as usize] = true);
        }
        polls
    }

    /// Adds functions so that no call runs through more than `MAX_OPERATORS_WITHOUT_POLL` without a poll. (A loop polls
    /// each time it goes round, so what is in it counts once.) What may take longer still is the way back from a deep
    /// recursion: so much for each frame.
    fn limit_work(&self, polls: &mut [bool]) {
        // From a call of the node to its return, or to its poll.
        let mut work = vec![0u32; self.edges.len()];
        let cut = polls.to_vec();
        let is_cut = |w: u32| cut.get(w as usize).is_some_and(|cut| *cut);
        self.walk(
            // What is left has no cycles, so what a node calls is done before it is.
            |w| !is_cut(w),
            |step| {
                let Step::Done(v) = step else { return };
                let callees = self.edges[v as usize].iter().map(|&w| work[w as usize]);
                let v = v as usize;
                if v >= self.funcs {
                    work[v] = callees.max().unwrap_or(0);
                    return;
                }
                let sum = callees.fold(self.work[v], u32::saturating_add);
                polls[v] |= sum > MAX_OPERATORS_WITHOUT_POLL;
                work[v] = if polls[v] { 0 } else { sum };
            },
        );
    }
}

/// Whether an operator takes the longer the more memory or elements it is given.
fn is_bulk(op: &Operator<'_>) -> bool {
    use Operator::*;
    matches!(
        op,
        MemoryFill { .. }
            | MemoryCopy { .. }
            | MemoryInit { .. }
            | MemoryGrow { .. }
            | TableFill { .. }
            | TableCopy { .. }
            | TableInit { .. }
            | TableGrow { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(funcs: usize, edges: &[&[u32]]) -> Graph {
        Graph {
            funcs,
            edges: edges.iter().map(|e| e.to_vec()).collect(),
            work: vec![1; funcs],
        }
    }

    /// Without the functions that poll, nothing is left of any cycle.
    fn cuts_all(graph: &Graph, polls: &[bool]) -> bool {
        let mut acyclic = true;
        graph.walk(
            |w| !polls.get(w as usize).is_some_and(|p| *p),
            |step| acyclic &= !matches!(step, Step::Back(..)),
        );
        acyclic
    }

    #[test]
    fn one_function_of_a_cycle_polls() {
        let g = graph(6, &[&[1], &[2, 3], &[0], &[4], &[4], &[0]]);
        assert_eq!(g.cut_cycles(), [true, false, false, false, true, false]);
    }

    #[test]
    fn calls_through_a_table() {
        // 0 calls a type; 1, 2 and 3 are of it, and go back to it through 4.
        let g = graph(5, &[&[5], &[4], &[4], &[4], &[5], &[1, 2, 3]]);
        assert_eq!(g.cut_cycles(), [false, false, false, false, true]);
        // All of them call through the table, but two of five can be called so.
        let g = graph(5, &[&[5], &[5], &[5], &[5], &[5], &[1, 2]]);
        let polls = g.cut_cycles();
        assert_eq!(polls, [false, true, true, false, false]);
        assert!(cuts_all(&g, &polls));
    }

    /// Operators from a call of a function to its return or first poll, found by going through all calls. `None` for
    /// more than `limit`.
    fn run(graph: &Graph, polls: &[bool], v: u32, limit: u32) -> Option<u32> {
        if polls.get(v as usize) == Some(&true) {
            return Some(0);
        }
        let mut callees = graph.edges[v as usize].iter().map(|&w| run(graph, polls, w, limit));
        let sum = match graph.work.get(v as usize) {
            Some(&own) => callees.try_fold(own, |sum, w| Some(sum + w?))?,
            None => callees.max().unwrap_or(Some(0))?,
        };
        (sum <= limit).then_some(sum)
    }

    #[test]
    fn in_any_graph_no_cycle_is_left_and_no_call_runs_long() {
        let mut seed = 1u64;
        let mut random = |below: usize| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) as usize % below
        };
        let mut added = 0;
        for _ in 0..2000 {
            let (funcs, types) = (1 + random(12), random(4));
            let edges = (0..funcs + types)
                .map(|v| {
                    // Types lead to functions only.
                    let to = if v < funcs { funcs + types } else { funcs };
                    (0..random(4)).map(|_| random(to) as u32).collect()
                })
                .collect();
            let work = (0..funcs)
                .map(|_| random(MAX_OPERATORS_WITHOUT_POLL as usize + 10) as u32)
                .collect();
            let g = Graph { funcs, edges, work };
            let mut polls = g.cut_cycles();
            assert!(cuts_all(&g, &polls), "{:?}: {polls:?}", g.edges);
            let cut = polls.clone();
            g.limit_work(&mut polls);
            for v in 0..(funcs + types) as u32 {
                let run = run(&g, &polls, v, MAX_OPERATORS_WITHOUT_POLL);
                assert!(run.is_some(), "{v} of {:?}, {:?}: {polls:?}", g.edges, g.work);
            }
            // None polls that needn't.
            for v in (0..funcs).filter(|&v| polls[v] && !cut[v]) {
                added += 1;
                let mut fewer = polls.clone();
                fewer[v] = false;
                assert_eq!(run(&g, &fewer, v as u32, MAX_OPERATORS_WITHOUT_POLL), None);
            }
        }
        assert!(added > 1000);
    }

    #[test]
    fn long_chains_do_not_recurse() {
        let n = 200_000;
        let mut edges: Vec<Vec<u32>> = (1..n).map(|k| vec![k]).collect();
        edges.push(vec![0]);
        let funcs = n as usize;
        let work = vec![1; funcs];
        let g = Graph { funcs, edges, work };
        let mut polls = g.cut_cycles();
        assert_eq!(polls.iter().filter(|p| **p).count(), 1);
        g.limit_work(&mut polls);
        assert_eq!(
            polls.iter().filter(|p| **p).count(),
            1 + funcs / (MAX_OPERATORS_WITHOUT_POLL as usize + 1)
        );
    }

    #[test]
    fn calls_that_double_poll_now_and_then() {
        let edges = (0..100).map(|k| if k < 99 { vec![k + 1, k + 1] } else { vec![] });
        let g = Graph {
            funcs: 100,
            edges: edges.collect(),
            work: vec![1; 100],
        };
        let mut polls = vec![false; 100];
        g.limit_work(&mut polls);
        // The last 14 make 2^14 - 1 calls.
        let at: Vec<usize> = (0..100).rev().filter(|k| polls[*k]).collect();
        assert_eq!(at[..3], [85, 70, 55]);
    }
}
