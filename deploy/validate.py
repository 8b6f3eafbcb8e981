"""The checks of deploy/check that need to look into documents. It runs in the environment that deploy/tools.sh makes."""

import base64
import collections
import contextlib
import http.client
import json
import pathlib
import re
import socket
import ssl
import subprocess
import sys
import tempfile
import time

import kubernetes_validate
import yaml

DEPLOY = pathlib.Path(__file__).parent
# Those of others' operators have no schema in Kubernetes.
WITHOUT_SCHEMA = {"argoproj.io", "cert-manager.io", "monitoring.coreos.com"}
# What Grafana knows of a field, as far as it is used here; what it does not know it passes over without a word.
FIELD = {"unit", "min", "max", "noValue", "custom"}


def documents(file):
    """The objects of a file, those of lists one by one."""
    for document in yaml.load_all(pathlib.Path(file).read_text(), yaml.CSafeLoader):
        if isinstance(document, dict) and document.get("kind", "").endswith("List") and "items" in document:
            yield from document["items"]
        elif isinstance(document, dict) and "kind" in document and "apiVersion" in document:
            yield document


def schemas(versions, *files):
    """Validates every object strictly: a field that a version does not know is wrong."""
    count, left_out, wrong = collections.Counter(), collections.Counter(), []
    for file in files:
        for document in documents(file):
            what = f"{document['kind']} {document.get('metadata', {}).get('name')}"
            if document["apiVersion"].split("/")[0] in WITHOUT_SCHEMA:
                left_out[document["kind"]] += 1
                continue
            for version in versions.split(","):
                try:
                    kubernetes_validate.validate(document, version, strict=True)
                    count[version] += 1
                except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
                    where = "/".join(map(str, getattr(error, "path", []) or []))
                    wrong.append(f"{file}: {what}, Kubernetes {version}: {where}: {getattr(error, 'message', '') or repr(error)}")
    for line in wrong:
        print(line, file=sys.stderr)
    print("valid: " + ", ".join(f"{n} objects for {version}" for version, n in sorted(count.items())), end="")
    print("".join(f"; no schema: {n} {kind}" for kind, n in left_out.items()))
    return not wrong


def pods(file):
    """The pod specs of a file's workloads."""
    found = {}
    for document in documents(file):
        spec = document.get("spec", {}).get("template", {}).get("spec")
        if spec:
            found[document["metadata"]["name"]] = spec
    return found


def ebb_of(spec):
    every = spec.get("initContainers", []) + spec["containers"]
    return next((container for container in every if container["name"] == "ebb"), None)


def without_token(value):
    return re.sub(r"(Bearer |[?]token=)\w+", r"\1TOKEN", json.dumps(value, sort_keys=True))


def like_inject(file, injected, except_for=""):
    """ebb's container and the hooks are what `ebb inject` makes of the same app."""
    theirs, ours, same = pods(injected), pods(file), 0
    for name in theirs.keys() & ours.keys():
        a, b = ours[name], theirs[name]
        if not ebb_of(a):
            continue
        for key in (ebb_of(a).keys() | ebb_of(b).keys()) - set(except_for.split(",")) - {"image"}:
            left, right = ebb_of(a).get(key), ebb_of(b).get(key)
            assert without_token(left) == without_token(right), f"{file}: {name}: {key}: {left} instead of {right}"
            same += 1
        hook = lambda spec: [c.get("lifecycle") for c in spec["containers"]]
        assert without_token(hook(a)) == without_token(hook(b)), f"{file}: {name}: hooks: {hook(a)} instead of {hook(b)}"
        if not except_for:
            for key in ("terminationGracePeriodSeconds", "containers", "initContainers"):
                assert without_token(a.get(key)) == without_token(b.get(key)), f"{file}: {name}: {key}"
    assert same, "nothing was compared"
    print(f"as ebb inject makes it: {same} fields")
    return True


def chosen(selector, labels):
    """Whether a label selector chooses these labels."""
    wanted = [{"key": key, "operator": "In", "values": [value]} for key, value in selector.get("matchLabels", {}).items()]
    return all((labels.get(e["key"]) in e["values"]) == (e["operator"] == "In") for e in wanted + selector.get("matchExpressions", []))


def wired(*files):
    """Services lead to ebb's port, where it listens; hooks to its admin port."""
    count = 0
    for file in files:
        templates = [document["spec"]["template"] for document in documents(file) if "template" in document.get("spec", {})]
        for template in templates:
            ebb = ebb_of(template["spec"])
            if not ebb:
                continue
            ports = {port["name"]: port["containerPort"] for port in ebb["ports"]}
            listen = int(re.search(r"(\d+)=", ebb["args"][ebb["args"].index("--forward") + 1])[1])
            assert listen in ports.values(), f"{file}: ebb listens on {listen}, which is none of {ports}"
            hooks = [c["lifecycle"]["preStop"]["httpGet"]["port"] for c in template["spec"]["containers"] if c.get("lifecycle")]
            assert hooks and set(hooks) == {ports["ebb-admin"]}, f"{file}: hooks on {hooks}"
            for service in documents(file):
                if service["kind"] == "Service" and chosen({"matchLabels": service["spec"]["selector"]}, template["metadata"]["labels"]):
                    to = service["spec"]["ports"][0]["targetPort"]
                    assert ports.get(to, to) == listen, f"{file}: the Service leads to {to}"
                    count += 1
    assert count, "no Service leads to ebb"
    print(f"wired: {count} Services")
    return True


def made_of(example, injected):
    """An example is what `ebb inject` makes of the app, and perhaps a NetworkPolicy."""
    theirs, ours = list(documents(injected)), list(documents(example))
    for document in ours:
        assert document in theirs or document["kind"] == "NetworkPolicy", f"{example}: ebb inject makes another {document['kind']}"
    assert all(document in ours for document in theirs), f"{example}: something is missing"
    print(f"{example}: {len(theirs)} objects as ebb inject makes them")
    return True


def webhook(ebb, *files):
    """The webhook's chart: selectors that spare its own namespace, no trust without a certificate, only variables that there are."""
    usage = subprocess.run([ebb, "webhook", "--help"], capture_output=True, text=True, check=True).stdout
    for file in files:
        by_kind = collections.defaultdict(list)
        for document in documents(file):
            by_kind[document["kind"]].append(document)
        (configuration,) = by_kind["MutatingWebhookConfiguration"]
        for hook in configuration["webhooks"]:
            never = [e["values"] for e in hook["namespaceSelector"]["matchExpressions"] if e["key"] == "kubernetes.io/metadata.name"]
            assert {"ebb", "kube-system"} <= set(never[0]), never
            assert hook["failurePolicy"] == "Ignore" and hook["timeoutSeconds"] <= 5 and hook["sideEffects"] == "None"
            injected = configuration["metadata"].get("annotations", {}).get("cert-manager.io/inject-ca-from", "")
            certificates = {f"ebb/{made['metadata']['name']}": made["spec"] for made in by_kind["Certificate"]}
            assert "caBundle" in hook["clientConfig"] or injected in certificates, "nobody to trust"
            # One that signs itself is trusted anew at each renewal, before the webhook has it.
            by_itself = {issuer["metadata"]["name"] for issuer in by_kind["Issuer"] if "selfSigned" in issuer["spec"]}
            assert certificates.get(injected, {}).get("issuerRef", {}).get("name") not in by_itself, "the certificate signs itself"
            service = hook["clientConfig"]["service"]
            assert service["name"] in [service["metadata"]["name"] for service in by_kind["Service"]], service
        # The guide's table, which leaves out what the API server has no name for.
        for where, what, asked in [(None, "true", 1), (None, None, 0), ("true", None, 1), ("true", "true", 1), ("false", "true", 0),
                                   ("false", None, 0), (None, "false", 0), ("true", "false", 0)]:
            labels = [{} if value is None else {"ebb.dev/inject": value} for value in (where, what)]
            labels[0]["kubernetes.io/metadata.name"] = "shop"
            times = sum(chosen(h["namespaceSelector"], labels[0]) and chosen(h["objectSelector"], labels[1]) for h in configuration["webhooks"])
            assert times == asked, f"namespace {where}, pod {what}: the webhook is asked {times} times"
        (deployment,) = by_kind["Deployment"]
        spec = deployment["spec"]["template"]["spec"]
        assert spec["automountServiceAccountToken"] is False and deployment["spec"]["replicas"] == 2
        assert not set(by_kind) & {"Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"}
        labels, ports = deployment["spec"]["template"]["metadata"]["labels"], {p["name"]: p["containerPort"] for p in spec["containers"][0]["ports"]}
        (service,) = by_kind["Service"]
        selectors = [service["spec"]["selector"], deployment["spec"]["selector"]["matchLabels"]]
        selectors += [o["spec"]["selector"]["matchLabels"] for o in by_kind["PodDisruptionBudget"] + by_kind["PodMonitor"]]
        selectors += [o["spec"]["podSelector"]["matchLabels"] for o in by_kind["NetworkPolicy"]]
        assert all(chosen({"matchLabels": selector}, labels) for selector in selectors), "a selector misses the webhook's pods"
        # A selector can't be changed later: what changes with the version must not be in it.
        assert not any("version" in key or "chart" in key for selector in selectors for key in selector), selectors
        (port,) = service["spec"]["ports"]
        assert ports[port["targetPort"]] == 8443 and port["port"] == hook["clientConfig"]["service"]["port"]
        for policy in by_kind["NetworkPolicy"]:
            assert [p["port"] for rule in policy["spec"]["ingress"] for p in rule["ports"]] == [ports["https"], ports["admin"]]
        assert all(monitor["spec"]["podMetricsEndpoints"][0]["port"] in ports for monitor in by_kind["PodMonitor"])
        mounted = spec["volumes"][0]["secret"]["secretName"]
        made = [o["metadata"]["name"] for o in by_kind["Secret"]] + [o["spec"]["secretName"] for o in by_kind["Certificate"]]
        assert mounted in made or not made, f"{mounted} is none of {made}"
        for certificate in by_kind["Certificate"]:
            assert certificate["spec"].get("isCA") or f"{service['metadata']['name']}.ebb.svc" in certificate["spec"]["dnsNames"], "another name"
        for secret in by_kind["Secret"]:
            asks(ebb, spec["containers"][0], secret, hook["clientConfig"])
        for variable in spec["containers"][0]["env"]:
            assert re.search(rf"env: {variable['name']}\b", usage), f"ebb webhook does not know {variable['name']}"
    # And all of them: but one token for every pod would be worth little.
    settings = json.loads((DEPLOY / "helm/ebb-webhook/values.schema.json").read_text())["properties"]["injection"]["properties"]
    known = {name.lower().replace("_", "-") for name in re.findall(r"env: EBB_INJECT_([A-Z_]+)", usage)} - {"token"}
    assert known == set(settings), f"the chart's settings differ from ebb webhook's: {known ^ set(settings)}"
    print(f"the webhook's configuration: {len(files)} renderings")
    return True


def asks(ebb, container, secret, client):
    """Starts the webhook as its Deployment does, and asks it as an API server does."""
    with tempfile.TemporaryDirectory() as tls, contextlib.ExitStack() as stack:
        for name, value in secret["data"].items():
            (pathlib.Path(tls) / name).write_bytes(base64.b64decode(value))
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
        listen, admin = (f"127.0.0.1:{s.getsockname()[1]}" for s in sockets)
        stack.close()
        variables = {v["name"]: v.get("value", "ebb") for v in container["env"]}
        arguments = [argument.replace("/tls/", f"{tls}/") for argument in container["args"]]
        process = subprocess.Popen([ebb, *arguments], env={**variables, "EBB_WEBHOOK_LISTEN": listen, "EBB_ADMIN": admin}, stderr=subprocess.DEVNULL)
        try:
            end = time.monotonic() + 20
            while process.poll() is None and time.monotonic() < end:
                with contextlib.suppress(OSError):
                    raw = socket.create_connection(listen.split(":"), timeout=5)
                    break
                time.sleep(0.05)
            else:
                raise AssertionError("the webhook does not start")
            service = client["service"]
            trust = ssl.create_default_context(cadata=base64.b64decode(client["caBundle"]).decode())
            trust.verify_flags &= ~ssl.VERIFY_X509_STRICT  # no API server is
            name = f"{service['name']}.{service['namespace']}.svc"
            connection = http.client.HTTPConnection(name)
            connection.sock = trust.wrap_socket(raw, server_hostname=name)
            pod = {"metadata": {"name": "shop"}, "spec": {"containers": [{"name": "app", "ports": [{"name": "http", "containerPort": 3000}]}]}}
            request = {"uid": "1", "operation": "CREATE", "namespace": "shop", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "object": pod}
            review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
            connection.request("POST", service["path"], json.dumps(review), {"Content-Type": "application/json"})
            answer = json.loads(connection.getresponse().read())["response"]
            assert answer["allowed"] and variables["EBB_INJECT_IMAGE"] in base64.b64decode(answer["patch"]).decode(), answer
        finally:
            process.kill()
            process.wait()


def expressions():
    """Every query of the rules and the dashboard, by a name."""
    for group in yaml.safe_load((DEPLOY / "monitoring/rules.yaml").read_text())["groups"]:
        for rule in group["rules"]:
            yield rule.get("alert") or rule["record"], rule["expr"]
    for panel in json.loads((DEPLOY / "monitoring/dashboard.json").read_text())["panels"]:
        for target in panel.get("targets", []):
            yield f"{panel['title']} {target['refId']}", target["expr"]


def rules(*flags):
    """One set of rules in two forms, of metrics that there are, each alert tested."""
    monitoring = DEPLOY / "monitoring"
    groups = yaml.safe_load((monitoring / "rules.yaml").read_text())["groups"]
    operator = monitoring / "prometheusrule.yaml"
    if "--write" in flags:
        head = "# rules.yaml for the Prometheus operator. Made by `deploy/check --write`: change rules.yaml.\n"
        resource = {"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule", "metadata": {"name": "ebb", "namespace": "monitoring"}, "spec": {"groups": groups}}
        operator.write_text(head + yaml.safe_dump(resource, sort_keys=False, width=120))
    same = yaml.safe_load(operator.read_text())["spec"]["groups"] == groups
    assert same, "prometheusrule.yaml is not rules.yaml: run deploy/check --write"
    port = yaml.safe_load((monitoring / "podmonitor.yaml").read_text())["spec"]["podMetricsEndpoints"][0]["port"]
    assert port in [p["name"] for spec in pods(DEPLOY / "native.yaml").values() for p in ebb_of(spec)["ports"]], f"ebb has no port {port}"
    tests = yaml.safe_load((monitoring / "rules_test.yaml").read_text())["tests"]
    fires = {test["alertname"] for case in tests for test in case.get("alert_rule_test", []) if test.get("exp_alerts")}
    alerts = {rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule}
    assert fires == alerts, f"alerts without a test in which they fire: {alerts - fires}"
    sources = "".join(path.read_text() for path in (DEPLOY.parent / "src").rglob("*.rs"))
    recorded = {rule["record"] for group in groups for rule in group["rules"] if "record" in rule}
    count = 0
    for name, expression in expressions():
        for metric in re.findall(r"\bebb[_:][a-z0-9_:]+", expression):
            known = metric in recorded or f'"{re.sub("_(bucket|sum|count)$", "", metric)}"' in sources
            assert known, f"{name}: there is no {metric}"
            count += 1
    print(f"{len(alerts)} alerts, each of which fires in a test; {count} uses of metrics that there are")
    return True


def queries():
    """The dashboard's, with Grafana's variables filled in."""
    for name, expression in expressions():
        for variable, value in (("$namespace", ".*"), ("$workload", ".*"), ("$__rate_interval", "1m"), ("$__range", "1h")):
            expression = expression.replace(variable, value)
        yield name, expression


def dashboard():
    """The queries as rules, for promtool to read. And what nobody else would see."""
    panels = json.loads((DEPLOY / "monitoring/dashboard.json").read_text())["panels"]
    for panel in panels:
        unknown = panel.get("fieldConfig", {}).get("defaults", {}).keys() - FIELD
        assert not unknown, f"{panel['title']}: Grafana does not know {unknown}"
    assert len({panel["id"] for panel in panels}) == len(panels), "two panels with one id"
    named = [{"record": f"q{i}", "expr": expression} for i, (_, expression) in enumerate(queries())]
    print(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": named}]}))
    return True


CHECKS = {"schemas": schemas, "made-of": made_of, "wired": wired, "like-inject": like_inject, "webhook": webhook, "rules": rules, "dashboard": dashboard}

if __name__ == "__main__":
    sys.exit(0 if CHECKS[sys.argv[1]](*sys.argv[2:]) else 1)
