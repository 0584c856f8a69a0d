"""Makes the JSON schemas beside this file from packages that carry the types of the custom resources.

    mkdir packages && cd packages
    pip download --no-deps --ignore-requires-python cloudcoil-models-keda==2.20.2.1 \
        cloudcoil-models-prometheus-operator==0.93.1.1 kserve==0.21.0
    cargo info gateway-api@0.22.0 && cp ~/.cargo/registry/cache/*/gateway-api-0.22.0.crate .
    cd .. && python build.py packages

Reads sources and runs none of them, so that it needs neither their dependencies nor their version of Python.
"""

import ast
import json
import re
import sys
import tarfile
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
# Definitions of Kubernetes itself come from the package kubernetes-validate when the tests run.
KUBERNETES = "https://kubernetes.io/api/_definitions.json#/$defs/"
METADATA = {"$ref": KUBERNETES + "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}
SCALARS = {"str": "string", "bool": "boolean", "int": "integer", "float": "number", "String": "string", "i32": "integer", "i64": "integer"}


def write(name, group_version, kind, spec, definitions):
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **strict(
            {
                "apiVersion": {"const": group_version},
                "kind": {"const": kind},
                "metadata": METADATA,
                "spec": {"$ref": f"#/$defs/{spec}"},
            },
            ["apiVersion", "kind", "metadata", "spec"],
        ),
        "$defs": dict(sorted(definitions.items())),
    }
    (HERE / name).write_text(json.dumps(schema, separators=(",", ":")).replace('},"', '},\n"') + "\n")


def strict(properties, required):
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**schema, "required": sorted(required)} if required else schema


def classes(source):
    return {node.name: node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)}


# ---- pydantic models: KEDA and the Prometheus operator


class Pydantic:
    def __init__(self, source):
        self.classes = classes(source)
        self.definitions = {}

    def add(self, name):
        if name in self.definitions:
            return
        node = self.classes[name]
        self.definitions[name] = {}
        root = next((base for base in node.bases if isinstance(base, ast.Subscript)), None)
        if root is not None:  # RootModel[…]
            self.definitions[name] = self.type(root.slice)
            return
        properties, required = {}, []
        for field in node.body:
            if not isinstance(field, ast.AnnAssign) or field.target.id.startswith("__"):
                continue
            schema, alias = self.annotated(field.annotation)
            key = alias or field.target.id
            properties[key] = schema
            if field.value is None:
                required.append(key)
        self.definitions[name] = strict(properties, required)

    def annotated(self, node):
        if not (isinstance(node, ast.Subscript) and node.value.id == "Annotated"):
            return self.type(node), None
        kind, field = node.slice.elts
        schema, alias = self.type(kind), None
        limits = {
            "ge": "minimum", "le": "maximum", "pattern": "pattern",
            "min_length": "minItems" if schema.get("type") == "array" else "minLength",
            "max_length": "maxItems" if schema.get("type") == "array" else "maxLength",
        }  # fmt: skip
        for keyword in field.keywords:
            if keyword.arg == "alias":
                alias = keyword.value.value
            elif keyword.arg in limits:
                schema[limits[keyword.arg]] = ast.literal_eval(keyword.value)
        return schema, alias

    def type(self, node):
        match node:
            case ast.BinOp(left, ast.BitOr(), ast.Constant(None)):  # a field that may be left out
                return self.type(left)
            case ast.BinOp(left, ast.BitOr(), right):
                return {"anyOf": [self.type(left), self.type(right)]}
            case ast.Subscript(ast.Name("list"), item):
                return {"type": "array", "items": self.type(item)}
            case ast.Subscript(ast.Name("dict"), ast.Tuple([_, value])):
                return {"type": "object", "additionalProperties": self.type(value)}
            case ast.Subscript(ast.Name("Literal"), ast.Tuple(values)):
                return {"enum": [value.value for value in values]}
            case ast.Subscript(ast.Name("Literal"), ast.Constant(value)):
                return {"enum": [value]}
            case ast.Subscript(ast.Name("Annotated")):
                return self.annotated(node)[0]
            case ast.Name(name) if name in SCALARS:
                return {"type": SCALARS[name]}
            case ast.Name("Any"):
                return {}
            case ast.Name(name):
                self.add(name)
                return {"$ref": f"#/$defs/{name}"}
        raise ValueError(ast.unparse(node))


def pydantic(package, module, group_version, kind):
    models = Pydantic(package.read(module).decode())
    models.add(f"{kind}Spec")
    write(f"{kind.lower()}.json", group_version, kind, f"{kind}Spec", models.definitions)


# ---- KServe's generated Python


class OpenApi:
    def __init__(self, package):
        self.classes = {}
        for name in package.namelist():
            if re.fullmatch(r"kserve/models/\w+\.py", name):
                self.classes.update(classes(package.read(name).decode()))
        self.definitions = {}

    def add(self, name):
        if name in self.definitions:
            return
        self.definitions[name] = {}
        tables = {
            node.targets[0].id: ast.literal_eval(node.value)
            for node in self.classes[name].body
            if isinstance(node, ast.Assign) and node.targets[0].id in ("openapi_types", "attribute_map")
        }
        required = re.findall(r"Invalid value for `(\w+)`, must not be `None`", ast.unparse(self.classes[name]))
        key = tables["attribute_map"]
        self.definitions[name] = strict(
            {key[field]: self.type(kind) for field, kind in tables["openapi_types"].items()},
            {key[field] for field in required},
        )

    def type(self, kind):
        if kind in SCALARS:
            return {"type": SCALARS[kind]}
        if kind == "object":
            return {}
        if item := re.fullmatch(r"list\[(.+)\]", kind):
            return {"type": "array", "items": self.type(item[1])}
        if value := re.fullmatch(r"dict\(str, (.+)\)", kind):
            return {"type": "object", "additionalProperties": self.type(value[1])}
        if kind in self.classes:
            self.add(kind)
            return {"$ref": f"#/$defs/{kind}"}
        if kind.startswith(("V1alpha", "V1beta")):
            return False  # The package names this type without having it, so that its field can't be checked: refuse it.
        return {"$ref": KUBERNETES + kubernetes_name(kind)}


def kubernetes_name(kind):
    if kind == "ResourceQuantity":
        return "io.k8s.apimachinery.pkg.api.resource.Quantity"
    if name := re.fullmatch(r"K8sIoApi(Apps|Autoscaling|Core)(V\d)(\w+)", kind):
        return f"io.k8s.api.{name[1].lower()}.{name[2].lower()}.{name[3]}"
    return "io.k8s.api.core.v1." + kind.removeprefix("V1")


def kserve(package, group_version, kind, spec):
    models = OpenApi(package)
    models.add(spec)
    write(f"{kind.lower()}.json", group_version, kind, spec, models.definitions)


# ---- kopium's generated Rust: the Gateway API


class Kopium:
    def __init__(self, source):
        source = re.sub(r"^\s*///.*\n", "", source, flags=re.M)
        self.bodies = {
            name: (kind, body)
            for kind, name, body in re.findall(r"^pub (struct|enum) (\w+) \{\n(.*?)^\}", source, flags=re.M | re.S)
        }
        self.definitions = {}

    def add(self, name):
        if name in self.definitions:
            return
        self.definitions[name] = {}
        kind, body = self.bodies[name]
        if kind == "enum":
            variants = re.findall(r'(?:#\[serde\(rename = "(.+?)"\)\]\s+)?(?:r#)?(\w+),', body)
            self.definitions[name] = {"enum": [renamed or variant for renamed, variant in variants]}
            return
        properties, required = {}, []
        for attribute, field, kind in re.findall(r"(?:#\[serde\((.+?)\)\]\s+)?pub (?:r#)?(\w+): (.+),\n", body):
            renamed = re.search(r'rename = "(.+?)"', attribute)
            key = renamed[1] if renamed else field
            optional = re.fullmatch(r"Option<(.+)>", kind)
            properties[key] = self.type(optional[1] if optional else kind)
            if not optional:
                required.append(key)
        self.definitions[name] = strict(properties, required)

    def type(self, kind):
        if kind in SCALARS:
            return {"type": SCALARS[kind]}
        if item := re.fullmatch(r"Vec<(.+)>", kind):
            return {"type": "array", "items": self.type(item[1])}
        self.add(kind)
        return {"$ref": f"#/$defs/{kind}"}


def kopium(crate, file, group_version, kind, spec):
    models = Kopium(crate.extractfile(file).read().decode())
    models.add(spec)
    write(f"{kind.lower()}.json", group_version, kind, spec, models.definitions)


def main(packages):
    def wheel(name):
        return zipfile.ZipFile(next(Path(packages).glob(f"{name}-*.whl")))

    pydantic(wheel("cloudcoil_models_keda"), "cloudcoil/models/keda/v1alpha1.py", "keda.sh/v1alpha1", "ScaledObject")
    pydantic(
        wheel("cloudcoil_models_prometheus_operator"),
        "cloudcoil/models/prometheus_operator/v1.py",
        "monitoring.coreos.com/v1",
        "ServiceMonitor",
    )
    kserve(wheel("kserve"), "serving.kserve.io/v1alpha1", "ServingRuntime", "V1alpha1ServingRuntimeSpec")
    kserve(wheel("kserve"), "serving.kserve.io/v1beta1", "InferenceService", "V1beta1InferenceServiceSpec")
    with tarfile.open(Path(packages) / "gateway-api-0.22.0.crate") as crate:
        file = "gateway-api-0.22.0/src/apis/standard/httproutes.rs"
        kopium(crate, file, "gateway.networking.k8s.io/v1", "HTTPRoute", "HttpRouteSpec")


if __name__ == "__main__":
    main(sys.argv[1])
