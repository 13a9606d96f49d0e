//! IP addresses and blocks of them, as `ipBlocks`, `remoteIpBlocks` and `destination.ip` write them.
//!
//! In comes the user's text, out comes a block that answers `contains`. Invariant: a block keeps its
//! family; an IPv4 block never contains an IPv6 address, mapped or not (Envoy
//! `source/common/network/cidr_range.cc:isInRange` and ztunnel's `IpNet` both compare families first).
//! istiod reads both with Go's `netip` (istio/istio `pilot/pkg/networking/util/util.go:AddrStrToPrefix`,
//! `pilot/pkg/serviceregistry/ambient/authorization.go:stringToIP`), without unmapping.

use std::net::IpAddr;

/// A block of addresses: a single address or a CIDR range. Host bits are ignored, as both proxies do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpBlock {
    first: IpAddr,
    length: u8,
}

impl IpBlock {
    /// Reads `10.0.0.1`, `10.0.0.0/8`, `::1` or `fd00::/8`; `None` if it is neither.
    ///
    /// ```
    /// use castoff_authz::ip::IpBlock;
    /// let block = IpBlock::parse("10.1.2.3/8").unwrap();
    /// assert!(block.contains("10.9.9.9".parse().unwrap()));
    /// assert!(IpBlock::parse("10.0.0.0/33").is_none());
    /// ```
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => {
                // As Go's `netip.ParsePrefix`, which istiod uses: no sign, no leading zero.
                let digits = length.bytes().all(|byte| byte.is_ascii_digit())
                    && (length == "0" || !length.starts_with('0'));
                (address, Some(length).filter(|_| digits)?.parse().ok()?)
            }
            None => (text, u8::MAX),
        };
        let address: IpAddr = address.parse().ok()?;
        let width = width(address);
        let length = if text.contains('/') { length } else { width };
        (length <= width).then(|| Self::new(address, length))
    }

    /// The block of the given prefix length (in bits) around `address`; a length over the family's is capped.
    #[must_use]
    pub fn new(address: IpAddr, length: u8) -> Self {
        let length = length.min(width(address));
        let first = from_number(number(address) & mask(address, length), address);
        Self { first, length }
    }

    /// The first address of the block.
    #[must_use]
    pub fn first(&self) -> IpAddr {
        self.first
    }

    /// The last address of the block.
    #[must_use]
    pub fn last(&self) -> IpAddr {
        let host = full(self.first) & !mask(self.first, self.length);
        from_number(number(self.first) | host, self.first)
    }

    /// Prefix length in bits.
    #[must_use]
    pub fn length(&self) -> u8 {
        self.length
    }

    /// Whether `address` is of this block's family and inside it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.first.is_ipv4() == address.is_ipv4()
            && number(address) & mask(address, self.length) == number(self.first)
    }
}

impl std::fmt::Display for IpBlock {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.length == width(self.first) {
            write!(out, "{}", self.first)
        } else {
            write!(out, "{}/{}", self.first, self.length)
        }
    }
}

/// The bits of an address of this family: 32 or 128.
fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// All host and network bits of the family set.
fn full(address: IpAddr) -> u128 {
    if address.is_ipv4() {
        u128::from(u32::MAX)
    } else {
        u128::MAX
    }
}

fn mask(address: IpAddr, length: u8) -> u128 {
    let host_bits = u32::from(width(address) - length);
    full(address) & u128::MAX.checked_shl(host_bits).unwrap_or(0)
}

/// The address as a number within its family.
#[must_use]
pub fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

/// The inverse of [`number`], in the family of `like`.
#[must_use]
pub fn from_number(number: u128, like: IpAddr) -> IpAddr {
    if like.is_ipv4() {
        IpAddr::V4(std::net::Ipv4Addr::from(number as u32))
    } else {
        IpAddr::V6(std::net::Ipv6Addr::from(number))
    }
}
