//! The directories of a state, found among those that the person who resumes grants.

use super::problem::{Problems, RestoreProblem};
use crate::wasi::{GrantedDir, open_grant};
use dunlin_interface::options::WasiConfig;
use dunlin_migrate::state::files::GrantMode;
use dunlin_migrate::state::wasi::{self as state, WasiState};
use std::collections::HashSet;
use std::sync::Arc;

/// Opens the grants that the state refers to: those of the same name among this machine's, the first for the first.
/// One that is missing, or wasn't given for what the snapshot brings, has a problem and no directory.
pub(super) fn open_grants(state: &WasiState, config: &WasiConfig) -> (Vec<GrantedDir>, Problems) {
    let mut problems = Vec::new();
    let files = &state.files;
    let of_descriptors = state.descriptors.iter().filter_map(|d| match &d.resource {
        state::Resource::Directory { grant, .. } | state::Resource::File { grant, .. } => Some(*grant),
        state::Resource::Unlinked { file, .. } => files.unlinked.get(*file as usize).map(|u| u.grant),
        state::Resource::Stdio { .. } | state::Resource::Listener { .. } => None,
    });
    let carrying: HashSet<u32> = files.nodes.iter().map(|n| n.grant).collect();
    let used: HashSet<u32> = of_descriptors.chain(carrying.iter().copied()).collect();
    let mut taken = vec![false; config.grants.len()];
    let mut open = |(index, guest): (u32, &String)| {
        let was = files.mode(index);
        let mut granted = GrantedDir {
            guest: guest.clone(),
            dir: None,
            mode: was,
        };
        let ours = config
            .grants
            .iter()
            .zip(&mut taken)
            .find(|(g, taken)| g.guest == *guest && !**taken);
        let ours = ours.map(|(g, taken)| {
            *taken = true;
            g
        });
        if let Some(ours) = ours {
            granted.mode = ours.mode;
        }
        let brings = was == GrantMode::CarryAll || carrying.contains(&index);
        if used.contains(&index) && brings && ours.is_none_or(|g| !g.mode.carries()) {
            problems.push(RestoreProblem::NowhereToPut {
                guest: guest.clone(),
                option: was.option(),
            });
            return granted;
        }
        match (ours.map(open_grant), used.contains(&index)) {
            (Some(Ok(dir)), _) => granted.dir = Some(Arc::new(dir)),
            (Some(Err(e)), true) => problems.push(e.into()),
            (None, true) => problems.push(RestoreProblem::MissingGrant(guest.clone())),
            (Some(Err(_)) | None, false) => {}
        }
        granted
    };
    let grants = (0u32..).zip(&state.grants).map(&mut open).collect();
    (grants, problems)
}
