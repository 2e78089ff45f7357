"""The network's invariants on every stack's graph, and the faults that each must find."""

from __future__ import annotations

import ipaddress
from collections import Counter

import pytest

from components.endpoints import GATEWAY_SERVICES, INTERFACE_SERVICES
from components.networking import ANYWHERE
from judges.plant import drop, plant, put, remove

VPC = "aws:ec2/vpc:Vpc"
SUBNET = "aws:ec2/subnet:Subnet"
ROUTE = "aws:ec2/route:Route"
ASSOCIATION = "aws:ec2/routeTableAssociation:RouteTableAssociation"
NAT = "aws:ec2/natGateway:NatGateway"
GROUP = "aws:ec2/securityGroup:SecurityGroup"
DEFAULT_GROUP = "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup"
INGRESS = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
EGRESS = "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule"
ENDPOINT = "aws:ec2/vpcEndpoint:VpcEndpoint"
FLOW_LOG = "aws:ec2/flowLog:FlowLog"


def tier(graph, subnet_id):
    found = [s for s in graph.of(SUBNET) if s.outputs["id"] == subnet_id]
    return found[0].inputs["tags"]["tier"] if found else None


def tables_of(graph, wanted):
    """Ids of the route tables of a tier's subnets."""
    return {
        a.inputs["routeTableId"]
        for a in graph.of(ASSOCIATION)
        if tier(graph, a.inputs["subnetId"]) == wanted
    }


def check_private_routes(graph):
    """Private subnets leave through NAT alone, each through one way."""
    tables = tables_of(graph, "private")
    routes = [r for r in graph.of(ROUTE) if r.inputs["routeTableId"] in tables]
    found = [
        f"{r.name}: leaves by {sorted(r.inputs)}, expected a NAT gateway"
        for r in routes
        if "natGatewayId" not in r.inputs or "gatewayId" in r.inputs
    ]
    ways = Counter(r.inputs["routeTableId"] for r in routes)
    return found + [f"{t}: {ways[t]} routes, expected one" for t in tables if ways[t] != 1]


def check_subnets(graph):
    """Every zone has one of each tier; /20 of the VPC; none gives public addresses."""
    vpc = graph.one(VPC, "vpc")
    whole = ipaddress.ip_network(vpc.inputs["cidrBlock"])
    blocks = [ipaddress.ip_network(s.inputs["cidrBlock"]) for s in graph.of(SUBNET)]
    found = [
        f"{s.name}: gives public addresses"
        for s in graph.of(SUBNET)
        if s.inputs.get("mapPublicIpOnLaunch") is not False
    ]
    found += [
        f"{b}: not a /20 of {whole}"
        for b in blocks
        if b.prefixlen != 20 or b not in whole.subnets(new_prefix=20)
    ]
    found += [
        f"{a} and {b} overlap" for n, a in enumerate(blocks) for b in blocks[:n] if a.overlaps(b)
    ]
    tiers = Counter(
        (s.inputs["availabilityZone"], s.inputs["tags"]["tier"]) for s in graph.of(SUBNET)
    )
    zones = {zone for zone, _ in tiers}
    wanted = {(zone, kind) for zone in zones for kind in ("private", "public")}
    return found + [f"zones and tiers: {dict(tiers)}" for _ in "x" if tiers != Counter(wanted)]


def check_no_way_in(graph):
    """No rule lets the internet in, and the default group has no rules."""
    rules = [(r.name, r.inputs.get("cidrIpv4")) for r in graph.of(INGRESS)]
    rules += [
        (g.name, cidr)
        for g in graph.of(GROUP)
        for rule in g.inputs.get("ingress", [])
        for cidr in rule.get("cidrBlocks", [])
    ]
    found = [f"{name}: open to {cidr}" for name, cidr in rules if cidr and not is_private(cidr)]
    found += [f"{r.name}: open to IPv6" for r in graph.of(INGRESS) if r.inputs.get("cidrIpv6")]
    defaults = graph.of(DEFAULT_GROUP)
    found += [
        f"{g.name}: has rules"
        for g in defaults
        if g.inputs.get("ingress") or g.inputs.get("egress")
    ]
    return found + (
        [] if len(defaults) == len(graph.of(VPC)) else ["a VPC keeps AWS' default group"]
    )


def is_private(cidr):
    return ipaddress.ip_network(cidr).is_private and cidr != ANYWHERE


def check_way_out(graph):
    """To the internet by TLS alone."""
    return [
        f"{r.name}: out to {r.inputs['cidrIpv4']} on {r.inputs.get('fromPort')}"
        for r in graph.of(EGRESS)
        if r.inputs.get("cidrIpv4") == ANYWHERE
        and (r.inputs["ipProtocol"], r.inputs.get("fromPort"), r.inputs.get("toPort"))
        != ("tcp", 443, 443)
    ]


def check_gateway_endpoints(graph):
    """S3 and DynamoDB are reached without NAT from every private subnet."""
    tables = tables_of(graph, "private")
    found = []
    for service in GATEWAY_SERVICES:
        ends = [e for e in graph.of(ENDPOINT) if e.inputs["serviceName"].endswith(f".{service}")]
        reached = {t for e in ends for t in e.inputs.get("routeTableIds", [])}
        found += [f"{service}: {table} has no endpoint" for table in tables - reached]
    return found


def check_flow_logs(graph):
    """Every VPC's traffic is recorded, accepted or not."""
    logged = {f.inputs["vpcId"] for f in graph.of(FLOW_LOG) if f.inputs.get("trafficType") == "ALL"}
    return [f"{v.name}: no flow logs" for v in graph.of(VPC) if v.outputs["id"] not in logged]


CHECKS = (
    check_private_routes,
    check_subnets,
    check_no_way_in,
    check_way_out,
    check_gateway_endpoints,
    check_flow_logs,
)


@pytest.mark.parametrize("check", CHECKS)
def test_the_network_keeps_its_invariants(graph, check):
    assert check(graph) == []


def of_tier(wanted):
    return lambda resource: resource.inputs["tags"]["tier"] == wanted


FAULTS = {
    "a private subnet leaves through the internet gateway": (
        check_private_routes,
        lambda g: plant(g, ROUTE, swap_exit, lambda r: "natGatewayId" in r.inputs),
    ),
    "a private subnet has no way out": (
        check_private_routes,
        lambda g: remove(g, ROUTE, lambda r: "natGatewayId" in r.inputs),
    ),
    "a subnet gives public addresses": (
        check_subnets,
        lambda g: plant(g, SUBNET, put("mapPublicIpOnLaunch", True)),
    ),
    "a subnet says nothing of public addresses": (
        check_subnets,
        lambda g: plant(g, SUBNET, drop("mapPublicIpOnLaunch")),
    ),
    "two subnets overlap": (
        check_subnets,
        lambda g: plant(g, SUBNET, put("cidrBlock", "10.0.0.0/20"), of_tier("public")),
    ),
    "a zone lacks its private subnet": (
        check_subnets,
        lambda g: remove(g, SUBNET, of_tier("private")),
    ),
    "a rule lets the internet in": (
        check_no_way_in,
        lambda g: plant(g, INGRESS, put("cidrIpv4", ANYWHERE)),
    ),
    "a rule lets a public range in": (
        check_no_way_in,
        lambda g: plant(g, INGRESS, put("cidrIpv4", "52.0.0.0/8")),
    ),
    "a rule lets IPv6 in": (check_no_way_in, lambda g: plant(g, INGRESS, put("cidrIpv6", "::/0"))),
    "the default group lets its members talk": (
        check_no_way_in,
        lambda g: plant(g, DEFAULT_GROUP, put("ingress", [{"self": True, "protocol": "-1"}])),
    ),
    "the default group is AWS' own": (check_no_way_in, lambda g: remove(g, DEFAULT_GROUP)),
    "tasks talk to anybody on any port": (
        check_way_out,
        lambda g: plant(
            g, EGRESS, put("fromPort", 0), lambda r: r.inputs.get("cidrIpv4") == ANYWHERE
        ),
    ),
    "a private table lacks the S3 endpoint": (
        check_gateway_endpoints,
        lambda g: plant(
            g,
            ENDPOINT,
            lambda inputs: inputs["routeTableIds"].pop(),
            lambda r: r.inputs["serviceName"].endswith(".s3"),
        ),
    ),
    "flow logs record refusals alone": (
        check_flow_logs,
        lambda g: plant(g, FLOW_LOG, put("trafficType", "REJECT")),
    ),
}


def swap_exit(inputs):
    inputs["gatewayId"] = inputs.pop("natGatewayId")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(graphs, fault):
    check, broken = FAULTS[fault]
    prod = graphs.get("prod")
    assert check(prod) == []
    assert check(broken(prod)) != []


@pytest.mark.parametrize(("stack", "gateways"), [("dev", 1), ("staging", 1), ("prod", 3)])
def test_a_stack_has_the_nat_gateways_that_it_asks_for(graphs, stack, gateways):
    graph = graphs.get(stack)
    assert len(graph.of(NAT)) == gateways
    used = {r.inputs["natGatewayId"] for r in graph.of(ROUTE) if "natGatewayId" in r.inputs}
    assert used == {nat.outputs["id"] for nat in graph.of(NAT)}, "each is used"


def test_a_zone_of_prod_leaves_through_its_own_gateway(graphs):
    graph = graphs.get("prod")
    zone = {s.outputs["id"]: s.inputs["availabilityZone"] for s in graph.of(SUBNET)}
    of_gateway = {nat.outputs["id"]: zone[nat.inputs["subnetId"]] for nat in graph.of(NAT)}
    of_table = {a.inputs["routeTableId"]: zone[a.inputs["subnetId"]] for a in graph.of(ASSOCIATION)}
    routes = [r.inputs for r in graph.of(ROUTE) if "natGatewayId" in r.inputs]
    assert all(of_gateway[r["natGatewayId"]] == of_table[r["routeTableId"]] for r in routes)


@pytest.mark.parametrize(("stack", "wanted"), [("dev", ()), ("prod", INTERFACE_SERVICES)])
def test_interface_endpoints_are_where_a_stack_pays_for_them(graphs, stack, wanted):
    graph = graphs.get(stack)
    ends = [e.inputs for e in graph.of(ENDPOINT) if e.inputs["vpcEndpointType"] == "Interface"]
    assert sorted(e["serviceName"].split(".", 3)[3] for e in ends) == sorted(wanted)
    private = {s.outputs["id"] for s in graph.of(SUBNET) if s.inputs["tags"]["tier"] == "private"}
    assert all(set(e["subnetIds"]) == private and e["privateDnsEnabled"] for e in ends)
