//! Which functions lie on a cycle of the call graph: those poll at their entry, so that no recursion runs without a poll.
//! A call through a
//! table or reference counts as an edge to every function of its type that something refers to.

use crate::error::Error;
use crate::module::Module;
use wasmparser::Operator;

/// For every function: is it on a cycle?
pub fn cycles(module: &Module<'_>) -> Result<Vec<bool>, Error> {
    let funcs = module.info.funcs.len();
    // Nodes: functions, then one per type index for `call_indirect`.
    let mut edges: Vec<Vec<u32>> = vec![vec![]; funcs + module.info.types.len()];
    let mut taken = module.address_taken.clone();
    let type_node = |ty: u32| funcs as u32 + module.info.canonical[ty as usize];
    for b in &module.bodies {
        let out = &mut edges[b.func as usize];
        for op in b.body.get_operators_reader()? {
            match op? {
                Operator::Call { function_index } | Operator::ReturnCall { function_index }
                    if (function_index as usize) < funcs =>
                {
                    out.push(function_index);
                }
                Operator::RefFunc { function_index } if (function_index as usize) < funcs => taken[function_index as usize] = true,
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
        out.sort_unstable();
        out.dedup();
    }
    for (f, _) in taken.iter().enumerate().filter(|(_, taken)| **taken) {
        edges[type_node(module.info.funcs[f]) as usize].push(f as u32);
    }
    let mut on_cycle = strongly_connected(&edges);
    on_cycle.truncate(funcs);
    Ok(on_cycle)
}

/// Tarjan's algorithm, iterative; tells which nodes are in a component with a cycle.
fn strongly_connected(edges: &[Vec<u32>]) -> Vec<bool> {
    const UNSEEN: u32 = u32::MAX;
    let n = edges.len();
    let (mut index, mut low) = (vec![UNSEEN; n], vec![0u32; n]);
    let (mut on_stack, mut on_cycle) = (vec![false; n], vec![false; n]);
    let (mut stack, mut calls): (Vec<u32>, Vec<(u32, usize)>) = (vec![], vec![]);
    let mut next = 0;
    for root in 0..n as u32 {
        if index[root as usize] != UNSEEN {
            continue;
        }
        calls.push((root, 0));
        while let Some((v, k)) = calls.pop() {
            let vi = v as usize;
            if k == 0 {
                index[vi] = next;
                low[vi] = next;
                next += 1;
                stack.push(v);
                on_stack[vi] = true;
            }
            if let Some(&w) = edges[vi].get(k) {
                calls.push((v, k + 1));
                let wi = w as usize;
                if index[wi] == UNSEEN {
                    calls.push((w, 0));
                } else if on_stack[wi] {
                    low[vi] = low[vi].min(index[wi]);
                }
                continue;
            }
            if let Some(&(parent, _)) = calls.last() {
                low[parent as usize] = low[parent as usize].min(low[vi]);
            }
            if low[vi] == index[vi] {
                let at = stack.iter().rposition(|&w| w == v).unwrap_or(0);
                let component = stack.split_off(at);
                let cyclic = component.len() > 1 || edges[vi].contains(&v);
                for w in component {
                    on_stack[w as usize] = false;
                    on_cycle[w as usize] = cyclic;
                }
            }
        }
    }
    on_cycle
}

#[cfg(test)]
mod tests {
    use super::strongly_connected;

    #[test]
    fn finds_cycles() {
        let edges = vec![vec![1], vec![2, 3], vec![0], vec![4], vec![4], vec![]];
        assert_eq!(strongly_connected(&edges), [true, true, true, false, true, false]);
    }

    #[test]
    fn long_chains_do_not_recurse() {
        let n = 200_000;
        let mut edges: Vec<Vec<u32>> = (1..n).map(|k| vec![k]).collect();
        edges.push(vec![0]);
        assert!(strongly_connected(&edges).iter().all(|c| *c));
    }
}
