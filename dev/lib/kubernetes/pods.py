"""Makes of a rendered overlay what Podman can play: each replica of each workload as a pod with an address of its own.

The engine is no cluster, so what Kubernetes adds around a pod is done here: a Service's names become `hostAliases`, the
volumes become folders with the owner and the mode that kubelet gives them. Images, commands, settings, users, privileges,
read-only root file systems, mounts and limits stay as the manifests have them.

    pods.py RENDERED FOLDER SUBNET      writes FOLDER/<pod>.yaml, the volumes, and FOLDER/pods (name, address, readiness
                                        command); SUBNET is that of the network, 10.90.3 say
"""

import copy
import os
import sys
from pathlib import Path

import yaml

from manifests import Overlay

# What only a cluster can do.
OF_THE_CLUSTER = ("topologySpreadConstraints", "serviceAccountName", "automountServiceAccountToken", "enableServiceLinks")
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


class Pods:
    """The pods of one overlay, and where they go."""

    def __init__(self, overlay, folder, subnet):
        self.overlay, self.folder = overlay, folder
        self.pods = []
        for workload in overlay.workloads:
            for number in range(workload.replicas):
                name = f"{workload.name}-{number}"
                self.pods.append((name, workload, f"{subnet}.{len(self.pods) + 10}"))

    def aliases(self):
        """Every name of a Service, by address. A Service with several pods leads to the first."""
        by_address = {}
        for name, service in self.overlay.services.items():
            behind = self.overlay.behind(service)
            mine = [(pod, address) for pod, workload, address in self.pods if workload in behind]
            by_address.setdefault(mine[0][1], []).append(name)
            for pod, address in mine:
                by_address.setdefault(address, []).append(f"{pod}.{name}")
        return [{"ip": address, "hostnames": names} for address, names in by_address.items()]

    def reachable(self):
        """The settings that say how a browser reaches the pods: from this machine, by their addresses."""
        address = {workload.name: address for _, workload, address in self.pods}
        return {
            "BROKER_URL": f"http://{address['broker']}:8080",
            "MAIL_PAGE_URL": f"http://{address['mailhog']}:8025",
            "CORS_ALLOWED_ORIGINS": f"http://{address['frontend']}:8081",
        }

    def write(self):
        configs = copy.deepcopy(list(self.overlay.named("ConfigMap").values()))
        for config in configs:
            config["data"] |= {key: value for key, value in self.reachable().items() if key in config["data"]}
        listed = []
        for name, workload, address in self.pods:
            documents = [*configs, self.pod(name, workload)]
            (self.folder / f"{name}.yaml").write_text(yaml.safe_dump_all(documents), encoding="utf-8")
            listed.append(" ".join([name, address, *self.probe(workload)]))
        (self.folder / "pods").write_text("\n".join(listed) + "\n", encoding="utf-8")

    def probe(self, workload):
        """How to ask whether it is ready: a command, or `port` and its number. What is asked at the start says more than
        what is asked for ever after."""
        container = workload.container
        probe = container.get("readinessProbe", {})
        if "tcpSocket" in probe and "exec" in container.get("startupProbe", {}):
            probe = container["startupProbe"]
        if "exec" in probe:
            return probe["exec"]["command"]
        return ["port", str(workload.port(probe["tcpSocket"]["port"]))]

    def pod(self, name, workload):
        spec = copy.deepcopy(workload.pod)
        for key in OF_THE_CLUSTER:
            spec.pop(key, None)
        spec["hostAliases"] = self.aliases()
        spec["restartPolicy"] = "Always"
        container = spec["containers"][0]
        for key in PROBES:
            container.pop(key, None)
        # Podman would take the port on the machine too.
        container.pop("ports")
        group = spec.pop("securityContext")
        # Podman knows these for a container only.
        container["securityContext"] |= {key: group[key] for key in ("runAsUser", "runAsGroup", "seccompProfile")}
        spec["volumes"] = list(self.volumes(name, workload, container, spec, group["fsGroup"]))
        labels = workload.labels
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}

    def volumes(self, name, workload, container, spec, group):
        sources = {volume["name"]: volume for volume in spec.get("volumes", [])}
        for claim in workload.document["spec"].get("volumeClaimTemplates", []):
            sources[claim["metadata"]["name"]] = {}
        for place, mount in enumerate(container.get("volumeMounts", [])):
            path = self.folder / name / mount["name"]
            self.fill(path, sources[mount["name"]], group)
            kind = "Directory"
            if "subPath" in mount:
                path, kind = path / mount.pop("subPath"), "File"
            mount["name"] = f"volume-{place}"
            yield {"name": mount["name"], "hostPath": {"path": str(path.resolve()), "type": kind}}

    def fill(self, path, source, group):
        """A volume as kubelet makes it."""
        path.mkdir(parents=True, exist_ok=True)
        if "secret" in source:
            mode = source["secret"]["defaultMode"]
            data = self.overlay.secret(source["secret"]["secretName"])
            items = source["secret"].get("items") or [{"key": key, "path": key} for key in data]
            files = {item["path"]: data[item["key"]] for item in items}
        elif "configMap" in source:
            mode = 0o644
            files = self.overlay.named("ConfigMap")[source["configMap"]["name"]]["data"]
        else:
            os.chown(path, 0, group)
            path.chmod(0o2777)
            return
        for file, text in files.items():
            (path / file).write_text(text, encoding="utf-8")
            os.chown(path / file, 0, group)
            (path / file).chmod(mode)


folder = Path(sys.argv[2])
folder.mkdir(parents=True, exist_ok=True)
Pods(Overlay(sys.argv[1]), folder, sys.argv[3]).write()
