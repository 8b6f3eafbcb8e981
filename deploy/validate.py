"""The checks of deploy/check that need to look into documents. It runs in the environment that deploy/tools.sh makes."""

import collections
import json
import pathlib
import re
import subprocess
import sys

import kubernetes_validate
import yaml

DEPLOY = pathlib.Path(__file__).parent
# Those of others' operators have no schema in Kubernetes.
WITHOUT_SCHEMA = {"argoproj.io", "cert-manager.io", "monitoring.coreos.com"}


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
    return re.sub(r"Bearer \w+", "Bearer TOKEN", json.dumps(value, sort_keys=True))


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


def webhook(ebb, *files):
    """The webhook's chart: selectors that spare its own namespace, no trust without a certificate, only variables that there are."""
    asked = subprocess.run([ebb, "webhook", "--help"], capture_output=True, text=True, check=False)
    for file in files:
        by_kind = collections.defaultdict(list)
        for document in documents(file):
            by_kind[document["kind"]].append(document)
        (configuration,) = by_kind["MutatingWebhookConfiguration"]
        for hook in configuration["webhooks"]:
            never = [e["values"] for e in hook["namespaceSelector"]["matchExpressions"] if e["key"] == "kubernetes.io/metadata.name"]
            assert {"ebb", "kube-system"} <= set(never[0]), never
            assert hook["failurePolicy"] == "Ignore" and hook["timeoutSeconds"] <= 5 and hook["sideEffects"] == "None"
            trusted = "caBundle" in hook["clientConfig"] or "cert-manager.io/inject-ca-from" in configuration["metadata"].get("annotations", {})
            assert trusted, "nobody to trust"
            service = hook["clientConfig"]["service"]
            assert service["name"] in [service["metadata"]["name"] for service in by_kind["Service"]], service
        (deployment,) = by_kind["Deployment"]
        spec = deployment["spec"]["template"]["spec"]
        assert spec["automountServiceAccountToken"] is False and deployment["spec"]["replicas"] == 2
        assert not set(by_kind) & {"Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"}
        if asked.returncode == 0:
            for variable in spec["containers"][0]["env"]:
                assert re.search(rf"env: {variable['name']}\b", asked.stdout), f"ebb webhook does not know {variable['name']}"
    # And all of them: but one token for every pod would be worth little.
    settings = json.loads((DEPLOY / "helm/ebb-webhook/values.schema.json").read_text())["properties"]["injection"]["properties"]
    known = {name.lower().replace("_", "-") for name in re.findall(r"env: EBB_INJECT_([A-Z_]+)", asked.stdout)} - {"token"}
    assert not known or known == set(settings), f"the chart's settings differ from ebb webhook's: {known ^ set(settings)}"
    print(f"the webhook's configuration: {len(files)} renderings" + ("" if asked.returncode == 0 else " (this ebb has no webhook: its variables were not compared)"))
    return True


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
            # The webhook's come with it.
            assert known or metric.startswith("ebb_webhook_"), f"{name}: there is no {metric}"
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
    """The queries as rules, for promtool to read."""
    named = [{"record": f"q{i}", "expr": expression} for i, (_, expression) in enumerate(queries())]
    print(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": named}]}))
    return True


CHECKS = {"schemas": schemas, "like-inject": like_inject, "webhook": webhook, "rules": rules, "dashboard": dashboard}

if __name__ == "__main__":
    sys.exit(0 if CHECKS[sys.argv[1]](*sys.argv[2:]) else 1)
