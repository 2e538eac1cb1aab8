"""Compares the NetworkPolicies of an overlay with the addresses in its settings, both ways: every hop that a service is
configured for is let through at both ends, and nothing else is. And what else has to fit: references, ports, the number
of the logger's addresses, the time to drain, and that no setting is missing without which a service does not start or
would look for another one on its own machine.

    hops.py DOCUMENTATION SERVERS RENDERED…      DOCUMENTATION lists the settings; each RENDERED is an overlay, rendered; the
                                                 servers of one that has none itself are made by operators from SERVERS
"""

import re
import sys
from itertools import product
from pathlib import Path

from manifests import Overlay

# The browser goes there, not the pod.
OF_THE_BROWSER = {"BROKER_URL", "MAIL_PAGE_URL", "CORS_ALLOWED_ORIGINS"}
PORTS = {"http": 80, "https": 443, "amqp": 5672, "amqps": 5671, "mongodb": 27017, "postgres": 5432, "postgresql": 5432}
# The namespace's own name is the label that Kubernetes gives it.
NAMESPACE = "kubernetes.io/metadata.name"


def needed(documented):
    """The settings without which a service can't do with the others, by its name: those that are required, and those whose
    default is on the same machine, where in a cluster nobody is."""
    return {
        section.split()[0]: set(re.findall(r"^\| `(\w+)` \| (?:required|`[^`|]*127\.0\.0\.1[^`|]*`) \|", section, re.MULTILINE))
        for section in re.split(r"^## ", documented, flags=re.MULTILINE)[1:]
    }


def addresses(settings):
    """(setting, host, port) of everything that these settings say to call."""
    for name, value in settings.items():
        if name in OF_THE_BROWSER:
            continue
        if name == "MAIL_HOST":
            yield name, value, int(settings["MAIL_PORT"])
        elif url := re.fullmatch(r"([a-z]+)://(?:[^/@]*@)?([^/?]*).*", value):
            for place in url[2].split(","):
                host, _, port = place.partition(":")
                yield name, host, int(port or PORTS[url[1]])
        elif re.fullmatch(r"[\w.-]+:\d+(,[\w.-]+:\d+)*", value):
            for place in value.split(","):
                host, _, port = place.partition(":")
                yield name, host, int(port)


def matches(selector, labels):
    """Whether a label selector selects these labels."""
    for key, value in selector.get("matchLabels", {}).items():
        if labels.get(key) != value:
            return False
    for rule in selector.get("matchExpressions", []):
        held = labels.get(rule["key"])
        holds = {
            "In": held in rule.get("values", []),
            "NotIn": held not in rule.get("values", []),
            "Exists": held is not None,
            "DoesNotExist": held is None,
        }
        if not holds[rule["operator"]]:
            return False
    return True


class End:
    """One end of a hop: pods of this overlay, another namespace, or an address outside."""

    def __init__(self, workload=None, namespace=None, outside=None):
        self.workload, self.namespace, self.outside = workload, namespace, outside

    def __str__(self):
        return self.workload.name if self.workload else self.namespace or self.outside

    def is_in(self, peer):
        """Whether a peer of a rule takes it in."""
        if "ipBlock" in peer:
            return self.outside is not None
        if "namespaceSelector" in peer:
            return self.namespace is not None and matches(peer["namespaceSelector"], {NAMESPACE: self.namespace})
        return self.workload is not None and matches(peer["podSelector"], self.workload.labels)

    def has(self, rule_port, port):
        """Whether a port of a rule is this port at this end."""
        first = rule_port["port"]
        if isinstance(first, str):
            return self.workload is not None and self.workload.port(first) == port
        return first <= port <= rule_port.get("endPort", first)


class Check:
    """The checks of one overlay."""

    def __init__(self, path, servers):
        self.overlay = Overlay(path, servers)
        self.problems = list(self.overlay.problems)
        for setting, server in list(self.overlay.operated.items()):
            if not self.is_in_the_cluster(server):
                self.overlay.workloads.remove(server)
                del self.overlay.operated[setting]

    def run(self, documented):
        hops = [hop for workload in self.overlay.workloads for hop in self.hops(workload)]
        for source, setting, target, port in hops:
            self.let_through(source, setting, target, port)
        self.nothing_else(hops)
        self.default_deny()
        for workload in self.overlay.workloads:
            if workload.is_service:
                self.settings(workload, documented)
        self.services()
        return len(hops), self.problems

    def hops(self, workload):
        for setting, host, port in addresses(workload.settings):
            target, port = self.resolve(workload, setting, host, port)
            if target is not None:
                yield workload, setting, target, port
        for setting in sorted(workload.unknown & self.overlay.operated.keys()):
            server = self.overlay.operated[setting]
            yield workload, setting, End(workload=server), server.port("client")

    def is_in_the_cluster(self, server):
        """Whether any service may call it there: else it is a managed one, with an address that only its Secret knows."""
        return any(
            End(workload=server).is_in(peer)
            for workload in self.overlay.workloads
            if workload.is_service
            for policy in self.overlay.policies.values()
            if matches(policy["spec"]["podSelector"], workload.labels)
            for rule in policy["spec"].get("egress", [])
            for peer in rule.get("to", [])
        )

    def resolve(self, workload, setting, host, port):
        """What is behind a name, and the port there."""
        labels = host.removesuffix(".svc.cluster.local").split(".")
        pod, name = (labels[0], labels[1]) if len(labels) == 2 and labels[1] in self.overlay.services else (None, labels[0])
        service = self.overlay.services.get(name)
        if service is None:
            if len(labels) == 2:
                return End(namespace=labels[1]), port
            if len(labels) > 2:
                return End(outside=host), port
            self.problems.append(f"{workload.name}: {setting} names {host}, and there is no such Service")
            return None, port
        behind = self.overlay.behind(service)
        if pod is not None:
            of = [w for w in behind if w.document["spec"].get("serviceName") == name]
            names = {f"{w.name}-{number}" for w in of for number in range(w.replicas)}
            if pod not in names:
                self.problems.append(f"{workload.name}: {setting} names {host}, and there is no such pod: {', '.join(sorted(names))}")
        for each in service["spec"]["ports"]:
            if each["port"] == port and behind:
                return End(workload=behind[0]), behind[0].port(each["targetPort"])
        self.problems.append(f"{workload.name}: {setting} names port {port}, which Service {name} does not have")
        return None, port

    def let_through(self, source, setting, target, port):
        hop = f"{source.name} -> {target}:{port} ({setting})"
        if not self.rule("Egress", source.labels, target, target, port):
            self.problems.append(f"no NetworkPolicy lets it out: {hop}")
        if target.workload and not self.rule("Ingress", target.workload.labels, End(workload=source), target, port):
            self.problems.append(f"no NetworkPolicy lets it in: {hop}")

    def rule(self, direction, labels, peer, target, port):
        """Whether a rule for these pods lets this through."""
        for policy in self.overlay.policies.values():
            spec = policy["spec"]
            if direction not in spec["policyTypes"] or not matches(spec["podSelector"], labels):
                continue
            for rule in spec.get(direction.lower(), []):
                peers = rule.get("to" if direction == "Egress" else "from", [])
                if any(map(peer.is_in, peers)) and any(target.has(rule_port, port) for rule_port in rule["ports"]):
                    return True
        return False

    def nothing_else(self, hops):
        """Rules between pods of this overlay that no hop asks for."""
        called = {}
        for source, _, target, port in hops:
            if target.workload:
                called.setdefault((source.name, target.workload.name), set()).add(port)
        for name, policy in self.overlay.policies.items():
            here = [w for w in self.overlay.workloads if matches(policy["spec"]["podSelector"], w.labels)]
            for direction, key in (("Egress", "to"), ("Ingress", "from")):
                for rule in policy["spec"].get(direction.lower(), []):
                    there = [w for w in self.overlay.workloads if any(map(End(workload=w).is_in, rule.get(key, [])))]
                    pairs = product(here, there) if direction == "Egress" else product(there, here)
                    for source, target in pairs:
                        self.is_asked_for(name, source, target, rule["ports"], called)

    def is_asked_for(self, policy, source, target, ports, called):
        if not (source.is_service or target.is_service):
            # What the members of a server say to each other is their own business.
            return
        for port in ports:
            if not any(End(workload=target).has(port, each) for each in called.get((source.name, target.name), ())):
                self.problems.append(
                    f"NetworkPolicy {policy} lets through what no setting asks for: {source.name} -> {target.name}, port {port['port']}"
                )

    def default_deny(self):
        everything = [p["spec"] for p in self.overlay.policies.values() if p["spec"]["podSelector"] == {}]
        for direction in ("Ingress", "Egress"):
            if not any(direction in spec["policyTypes"] and not spec.get(direction.lower()) for spec in everything):
                self.problems.append(f"no NetworkPolicy denies {direction} by default")

    def settings(self, workload, documented):
        name, settings = workload.name, workload.settings
        for setting in settings:
            if f"`{setting}`" not in documented:
                self.problems.append(f"{name}: {setting} is no setting: docs/configuration.md does not list it")
        for setting in sorted(needed(documented).get(name, set()) - settings.keys() - workload.unknown):
            self.problems.append(f"{name}: {setting} is not set: docs/configuration.md says why it has to be")
        grace = workload.pod["terminationGracePeriodSeconds"]
        seconds = sum(int(settings[key].removesuffix("s")) for key in ("DRAIN_DELAY", "DRAIN_TIMEOUT"))
        if grace < seconds + 5:
            self.problems.append(f"{name}: terminationGracePeriodSeconds is {grace}: less than the drain's {seconds} and 5 more")
        loggers = self.overlay.workload("logger")
        if "LOGGER_RPC_ADDR" in settings and len(settings["LOGGER_RPC_ADDR"].split(",")) != loggers.replicas:
            self.problems.append(f"{name}: LOGGER_RPC_ADDR does not name each of the {loggers.replicas} loggers")

    def services(self):
        for name, service in self.overlay.services.items():
            behind = self.overlay.behind(service)
            if len(behind) != 1:
                self.problems.append(f"Service {name} selects {len(behind)} workloads")
            for port in service["spec"]["ports"]:
                if behind and behind[0].port(port["targetPort"]) is None:
                    self.problems.append(f"Service {name}: {behind[0].name} has no port {port['targetPort']}")
        for name, document in self.overlay.named("HorizontalPodAutoscaler").items():
            reference = document["spec"]["scaleTargetRef"]
            target = self.overlay.workload(reference["name"])
            if target is None or target.kind != reference["kind"]:
                self.problems.append(f"HorizontalPodAutoscaler {name} has no target")
            elif "replicas" in target.document["spec"]:
                self.problems.append(f"{name} has replicas and an autoscaler: every apply would undo its work")


def main():
    documented = Path(sys.argv[1]).read_text(encoding="utf-8")
    failed = False
    for path in sys.argv[3:]:
        count, problems = Check(path, sys.argv[2]).run(documented)
        overlay = Path(path).stem
        print(f"    {overlay}: {count} hops in the settings" + ("" if problems else ", all let through, and nothing else"))
        for problem in problems:
            print(f"    {overlay}: {problem}")
        failed |= bool(problems)
    return failed


sys.exit(main())
