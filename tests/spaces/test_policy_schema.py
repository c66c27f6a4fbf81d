"""The JSON Schema that is shipped is the one that the code has."""

import json
from importlib import resources

import jsonschema
import pytest

from tinysearch.spaces.policy import UpdatePolicy

COMMAND = (
    'python -c "import json, tinysearch as ts; print(json.dumps(ts.UpdatePolicy.json_schema(), indent=2))" '
    "> spaces/policy.schema.json"
)


@pytest.fixture(scope="module")
def shipped():
    return json.loads((resources.files("tinysearch.spaces") / "policy.schema.json").read_text())


def test_the_shipped_schema_is_up_to_date(shipped):
    assert shipped == UpdatePolicy.json_schema(), f"write it anew: {COMMAND}"


def test_the_shipped_schema_is_one_and_refuses_what_the_format_does_not_know(shipped):
    jsonschema.Draft202012Validator.check_schema(shipped)
    policy = UpdatePolicy(backbone="net", input_shape=(3, 32, 32), head="classifier")
    content = json.loads(policy.to_json())
    jsonschema.validate(content, shipped)
    for wrong in ({"unknown": 1}, {"version": 0}, {"sign_masks": [1]}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(content | wrong, shipped)
