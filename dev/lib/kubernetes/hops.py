"""Compares the NetworkPolicies of an overlay with the addresses in its settings, both ways: every hop that a service is
configured for is let through at both ends, and nothing else is. And what else has to fit: references, ports, the number
of the logger's addresses, the time to drain.

    hops.py DOCUMENTATION RENDERED…      DOCUMENTATION lists the settings; each RENDERED is an overlay, rendered
"""

import re
import sys
from pathlib import Path

from manifests import Overlay

# The browser goes there, not the pod.
OF_THE_BROWSER = {"BROKER_URL", "MAIL_PAGE_URL", "CORS_ALLOWED_ORIGINS"}
PORTS = {"http": 80, "https": 443, "amqp": 5672, "amqps": 5671, "mongodb": 27017, "postgres": 5432, "postgresql": 5432}
# The namespace's own name is the label that Kubernetes gives it.
NAMESPACE = "kubernetes.io/metadata.name"


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

    def __init__(self, path):
        self.overlay = Overlay(path)
        self.problems = list(self.overlay.problems)
        self.used = set()

    def run(self, documented):
        hops = [hop for workload in self.overlay.workloads for hop in self.hops(workload)]
        for source, setting, target, port in hops:
            self.let_through(source, setting, target, port)
        self.nothing_else()
        self.default_deny()
        for workload in self.overlay.workloads:
            if workload.labels.get("app.kubernetes.io/component") == "service":
                self.settings(workload, documented)
        self.services()
        return len(hops), self.problems

    def hops(self, workload):
        for setting, host, port in addresses(workload.settings):
            target, port = self.resolve(workload, setting, host, port)
            if target is not None:
                yield workload, setting, target, port

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
        """Whether a rule for these pods lets this through; the rule counts as used."""
        found = False
        for name, policy in self.overlay.policies.items():
            if not matches(policy["spec"]["podSelector"], labels):
                continue
            for place, rule in enumerate(policy["spec"].get(direction.lower(), [])):
                peers = rule.get("to" if direction == "Egress" else "from", [])
                for nth, each in enumerate(peers):
                    if not peer.is_in(each):
                        continue
                    for rule_port in rule["ports"]:
                        if target.has(rule_port, port):
                            self.used.add((name, direction, place, nth, str(rule_port["port"])))
                            found = True
        return found

    def nothing_else(self):
        """Rules between pods of this overlay that no hop uses."""
        for name, policy in self.overlay.policies.items():
            for direction, key in (("Egress", "to"), ("Ingress", "from")):
                for place, rule in enumerate(policy["spec"].get(direction.lower(), [])):
                    for nth, peer in enumerate(rule.get(key, [])):
                        self.is_used(policy, (name, direction, place, nth), peer, rule["ports"])

    def is_used(self, policy, key, peer, ports):
        selected = [w for w in self.overlay.workloads if End(workload=w).is_in(peer)]
        if not selected or self.unknown(policy, selected):
            return
        for port in ports:
            if (*key, str(port["port"])) not in self.used:
                name, direction = key[:2]
                self.problems.append(
                    f"NetworkPolicy {name} lets through what no setting asks for: {direction}, {selected[0].name}, port {port['port']}"
                )

    def unknown(self, policy, selected):
        """Whether the rule may be for a server whose address is in a Secret that is not here."""
        ends = selected + [w for w in self.overlay.workloads if matches(policy["spec"]["podSelector"], w.labels)]
        return any(w.unknown for w in ends) and not all(w.labels.get("app.kubernetes.io/component") == "service" for w in ends)

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
    for path in sys.argv[2:]:
        count, problems = Check(path).run(documented)
        overlay = Path(path).stem
        print(f"    {overlay}: {count} hops in the settings" + ("" if problems else ", all let through, and nothing else"))
        for problem in problems:
            print(f"    {overlay}: {problem}")
        failed |= bool(problems)
    return failed


sys.exit(main())
