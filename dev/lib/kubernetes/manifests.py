"""What an overlay renders to, as the checks look at it: workloads with their settings, Services, NetworkPolicies."""

import base64
from dataclasses import dataclass, field

import yaml

WORKLOADS = {"Deployment", "StatefulSet"}
# What operators make of their resources: the setting that leads there, the labels of the pods, and the port that clients call.
OPERATED = {
    "Cluster": ("DSN", lambda name: {"cnpg.io/cluster": name}, 5432),
    "MongoDBCommunity": ("MONGO_URL", lambda name: {"app": f"{name}-svc"}, 27017),
    "RabbitmqCluster": (
        "RABBITMQ_URL",
        lambda name: {"app.kubernetes.io/name": name, "app.kubernetes.io/component": "rabbitmq"},
        5672,
    ),
}


def read(path):
    """The documents of a rendered overlay."""
    with open(path, encoding="utf-8") as file:
        return [document for document in yaml.safe_load_all(file) if document]


@dataclass
class Workload:
    """A Deployment or a StatefulSet."""

    document: dict
    settings: dict = field(default_factory=dict)
    # Settings from Secrets that the overlay only refers to.
    unknown: set = field(default_factory=set)

    @property
    def kind(self):
        return self.document["kind"]

    @property
    def name(self):
        return self.document["metadata"]["name"]

    @property
    def pod(self):
        return self.document["spec"]["template"]["spec"]

    @property
    def container(self):
        return self.pod["containers"][0]

    @property
    def labels(self):
        return self.document["spec"]["template"]["metadata"]["labels"]

    @property
    def replicas(self):
        return self.document["spec"].get("replicas", 1)

    @property
    def is_service(self):
        """Whether it is one of ours, and no server."""
        return self.labels.get("app.kubernetes.io/component") == "service"

    def port(self, port):
        """The number of a port that is given by its number or its name; nothing where there is no such port."""
        for each in self.container.get("ports", []):
            if port in (each["containerPort"], each.get("name")):
                return each["containerPort"]
        return None


class Overlay:
    """Everything that an overlay renders to; `servers`, where given, has the resources from which operators make its servers."""

    def __init__(self, path, servers=None):
        self.documents = read(path)
        self.problems = []
        self.workloads = [Workload(d) for d in self.documents if d["kind"] in WORKLOADS]
        # The servers behind the settings whose values are in Secrets of the operators.
        self.operated = {}
        self.services = self.named("Service")
        self.policies = self.named("NetworkPolicy")
        for workload in self.workloads:
            self._read_settings(workload)
        if servers is not None and any(workload.unknown for workload in self.workloads):
            self._add_operated(read(servers))

    def named(self, kind):
        return {d["metadata"]["name"]: d for d in self.documents if d["kind"] == kind}

    def workload(self, name):
        return next((workload for workload in self.workloads if workload.name == name), None)

    def behind(self, service):
        """The workloads that a Service selects."""
        selector = service["spec"].get("selector", {})
        return [w for w in self.workloads if selector and selector.items() <= w.labels.items()]

    def secret(self, name):
        """The data of a Secret, decoded; nothing where the overlay only refers to it."""
        document = self.named("Secret").get(name)
        if document is None:
            return None
        data = {key: base64.b64decode(value).decode() for key, value in document.get("data", {}).items()}
        return data | document.get("stringData", {})

    def _add_operated(self, documents):
        self.documents += documents
        self.policies = self.named("NetworkPolicy")
        for document in documents:
            if document["kind"] in OPERATED:
                setting, labels, port = OPERATED[document["kind"]]
                name = document["metadata"]["name"]
                pod = {"containers": [{"ports": [{"containerPort": port, "name": "client"}]}]}
                template = {"metadata": {"labels": labels(name)}, "spec": pod}
                server = {"kind": document["kind"], "metadata": {"name": name}, "spec": {"template": template}}
                self.operated[setting] = Workload(server)
        self.workloads += self.operated.values()

    def _read_settings(self, workload):
        for source in workload.container.get("envFrom", []):
            name = source["configMapRef"]["name"]
            config = self.named("ConfigMap").get(name)
            if config is None:
                self.problems.append(f"{workload.name}: there is no ConfigMap {name}")
            else:
                workload.settings |= config["data"]
        for variable in workload.container.get("env", []):
            name, value = variable["name"], variable.get("value", "")
            if name.endswith("_FILE"):
                self._read_file(workload, name.removesuffix("_FILE"), value)
            else:
                workload.settings[name] = value

    def _read_file(self, workload, name, path):
        """A setting that is the content of a file, which a Secret's volume puts there."""
        volumes = {volume["name"]: volume for volume in workload.pod.get("volumes", [])}
        for mount in workload.container.get("volumeMounts", []):
            secret = volumes.get(mount["name"], {}).get("secret")
            if secret is None or not path.startswith(mount["mountPath"] + "/"):
                continue
            file = path.removeprefix(mount["mountPath"] + "/")
            items = {item["path"]: item["key"] for item in secret.get("items", [])}
            data = self.secret(secret["secretName"])
            if data is None:
                workload.unknown.add(name)
            elif items.get(file, file) in data:
                workload.settings[name] = data[items.get(file, file)]
            else:
                self.problems.append(f"{workload.name}: Secret {secret['secretName']} has no {items.get(file, file)}")
            return
        self.problems.append(f"{workload.name}: {name}_FILE={path} is in no volume")
