"""The address of a client, behind trusted proxies or not.

X-Forwarded-For is used only if the peer is a trusted proxy (FLEET_TRUSTED_PROXIES), and only the part that trusted
proxies have added: it is read from the right, up to the first address that is not such a proxy. uvicorn's own handling
of the header is off (fleet/web/__main__.py), because it would trust every peer on this host.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from django.conf import settings
from django.http import HttpRequest

from fleet.limits import known_browsers

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

UNKNOWN = IPv4Address(0)  # an unknown peer, or one on a Unix socket; no packet has this source (RFC 6890)
LOOPBACK = "127.0.0.1"
UNIX = "unix"  # stands for Unix sockets in FLEET_TRUSTED_PROXIES
V6_BITS = 64  # the prefix of an IPv6 address that identifies a client; it chooses the rest itself (RFC 6177)


def client(request: HttpRequest) -> str:
    """The client's address, IPv4 or IPv6 in its shortest form; 0.0.0.0 if it is unknown."""
    meta = request.META
    return resolve(peer=meta.get("REMOTE_ADDR") or "", forwarded=meta.get("HTTP_X_FORWARDED_FOR", ""))


def resolve(*, peer: str, forwarded: str) -> str:
    """The client's address from the peer's address and the lines of X-Forwarded-For, joined with commas."""
    address = read(peer) or UNKNOWN
    for hop in reversed(forwarded.split(",")):
        if not _is_proxy(address) or (previous := read(hop)) is None:
            break  # not added by a trusted proxy, or malformed; the rest cannot be trusted either
        address = previous
    return str(address)


def is_proxy(peer: str) -> bool:
    """Whether this peer is a trusted proxy."""
    return _is_proxy(read(peer) or UNKNOWN)


def bucket(address: str) -> str:
    """The key by which requests are counted: the IPv4 address, or the IPv6 network.

    All loopback addresses count as one: every process of this host, even a workload, can use all of 127.0.0.0/8.
    """
    parsed = read(address) or UNKNOWN
    if parsed.is_loopback:
        return LOOPBACK
    return str(parsed if parsed.version == 4 else ip_network((parsed, V6_BITS), strict=False))


def read(text: str) -> Address | None:
    """Parse an address of X-Forwarded-For, which may have a port (IPv6 then in brackets). None if it is malformed."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped if isinstance(address, IPv6Address) else None) or address


def parse_networks(text: str) -> list[Network]:
    """Parse `10.0.0.0/8, ::1, unix`. Raises ValueError, with a message for people, if one is not a network."""
    return [
        ip_network(UNKNOWN) if word.lower() == UNIX else ip_network(word) for word in text.replace(",", " ").split()
    ]


def lockout_key(request: HttpRequest) -> str:
    """The key by which failed sign-ins are counted: the IPv4 address, or the first address of the IPv6 network.

    A browser in which the user has signed in before has a key of its own.
    """
    if number := known_browsers.number_of(request):
        return known_browsers.address_of(number)
    return bucket(client(request)).partition("/")[0]


def _is_proxy(address: Address) -> bool:
    return any(address in network for network in settings.FLEET_TRUSTED_PROXIES)
