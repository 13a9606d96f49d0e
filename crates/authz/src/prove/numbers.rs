//! The classes of addresses and ports that a set of blocks, or numbers, can tell apart.
//!
//! In come blocks and the addresses that exist, out comes an example of each combination that some
//! address is in exactly. Invariant: families never mix; classes with a preferred example come first.

use std::net::IpAddr;

use rustc_hash::FxHashMap;

use crate::ip::{IpBlock, from_number, number};

/// The classes of addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Addresses {
    pub(crate) examples: Vec<IpAddr>,
    /// For each block, the classes inside it, ascending.
    pub(crate) members: Vec<Vec<u32>>,
}

/// Cuts the addresses of `universe` (empty: all) into classes.
pub(crate) fn addresses(
    blocks: &[IpBlock],
    universe: &[IpBlock],
    preferred: &[IpAddr],
) -> Addresses {
    let exists = |address: IpAddr| {
        universe.is_empty() || universe.iter().any(|block| block.contains(address))
    };
    let mut candidates: Vec<IpAddr> = preferred
        .iter()
        .copied()
        .filter(|&one| exists(one))
        .collect();
    for family in [IpAddr::from([0, 0, 0, 0]), IpAddr::from([0_u16; 8])] {
        let of_family = |block: &&IpBlock| block.first().is_ipv4() == family.is_ipv4();
        let mut starts = vec![0];
        for block in blocks.iter().chain(universe).filter(of_family) {
            starts.push(number(block.first()));
            starts.extend(number(block.last()).checked_add(1));
        }
        starts.sort_unstable();
        starts.dedup();
        let in_family = |number: u128| !family.is_ipv4() || number <= u128::from(u32::MAX);
        let starts = starts.into_iter().filter(|&start| in_family(start));
        candidates.extend(
            starts
                .map(|start| from_number(start, family))
                .filter(|&one| exists(one)),
        );
    }
    let containing = Containing::new(blocks);
    let mut known: FxHashMap<Vec<u32>, u32> = FxHashMap::default();
    let mut examples = Vec::new();
    let mut members = vec![Vec::new(); blocks.len()];
    for candidate in candidates {
        let inside = containing.of(candidate);
        if known.contains_key(&inside) {
            continue;
        }
        let class = examples.len() as u32;
        for &block in &inside {
            members[block as usize].push(class);
        }
        known.insert(inside, class);
        examples.push(candidate);
    }
    Addresses { examples, members }
}

/// Blocks by family and length, to find those that contain an address without trying all.
struct Containing {
    by_length: Vec<(bool, u8)>,
    blocks: FxHashMap<IpBlock, Vec<u32>>,
}

impl Containing {
    fn new(blocks: &[IpBlock]) -> Self {
        let mut by_length = Vec::new();
        let mut index: FxHashMap<IpBlock, Vec<u32>> = FxHashMap::default();
        for (number, block) in blocks.iter().enumerate() {
            by_length.push((block.first().is_ipv4(), block.length()));
            index.entry(*block).or_default().push(number as u32);
        }
        by_length.sort_unstable();
        by_length.dedup();
        Self {
            by_length,
            blocks: index,
        }
    }

    /// The blocks that contain the address, ascending.
    fn of(&self, address: IpAddr) -> Vec<u32> {
        let mut inside = Vec::new();
        for &(ipv4, length) in &self.by_length {
            if ipv4 == address.is_ipv4()
                && let Some(blocks) = self.blocks.get(&IpBlock::new(address, length))
            {
                inside.extend_from_slice(blocks);
            }
        }
        inside.sort_unstable();
        inside
    }
}
