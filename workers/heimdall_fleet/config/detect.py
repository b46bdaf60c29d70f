"""Providers found by the credentials in the environment, for a fleet without a `providers` section."""

from collections.abc import Iterator, Mapping
from typing import Any

from heimdall_fleet.config.issues import Issue
from heimdall_fleet.config.provider_types import FACTS

Entry = dict[str, Any]

_BY_ENVIRONMENT: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "OPENAI": {
        "production": ("OPENAI_PROD_KEY", "OPENAI_PROD_KEY_1", "OPENAI_PROD_KEY_2"),
        "staging": ("OPENAI_STAGING_KEY",),
    },
    "ANTHROPIC": {"production": ("ANTHROPIC_PROD_KEY",), "staging": ("ANTHROPIC_STAGING_KEY",)},
}

NOTHING_FOUND = (
    "no provider is configured: the file has no providers, and none was found in the environment; "
    "set one of OPENAI_API_KEY, ANTHROPIC_API_KEY, GEMINI_API_KEY, OPENROUTER_API_KEY, GROQ_API_KEY, "
    "AWS_ACCESS_KEY_ID with AWS_SECRET_ACCESS_KEY, or AZURE_OPENAI_API_KEY with AZURE_OPENAI_ENDPOINT"
)


def detect_providers(env: Mapping[str, str], environment: str) -> tuple[dict[str, Entry], list[Issue]]:
    """Entries of `providers` that the environment has credentials for, and warnings about half or doubtful ones.

    OpenAI and Anthropic take the keys of the environment's own name first, then the plain one, then any other.
    """
    found: dict[str, Entry] = {}
    warnings: list[Issue] = []
    for name, facts in FACTS.items():
        variables, doubts = _variables(name, facts.key_variables, env, environment)
        warnings += doubts
        if variables:
            found[name] = {"type": name, "keys": [_key(variable, env) for variable in variables]}
    for name, reader in (("bedrock", _bedrock), ("azure", _azure), ("vertex", _vertex)):
        entry, missing = reader(env)
        if entry:
            found[name] = entry
        elif missing:
            warnings.append(_warning(name, f"{missing[0]} is set but {missing[1]} is not; {name} is left out"))
    return found, warnings


def _variables(
    name: str, plain: tuple[str, ...], env: Mapping[str, str], environment: str
) -> tuple[tuple[str, ...], list[Issue]]:
    special = _BY_ENVIRONMENT.get(name.upper(), {})
    own = _present(special.get(environment, ()), env)
    usual = _present(plain, env)
    if own or usual:
        return own or usual[:1], list(_doubts(name, usual, env)) if not own else []
    other = _present([variable for variables in special.values() for variable in variables], env)
    if not other:
        return (), []
    message = f"{other[0]} is used although the environment is {environment}"
    return other, [_warning(name, message, f"set {plain[0]}, or ENVIRONMENT")]


def _doubts(name: str, usual: tuple[str, ...], env: Mapping[str, str]) -> Iterator[Issue]:
    if len({env[variable] for variable in usual}) > 1:
        first, *others = usual
        yield _warning(name, f"{first} and {', '.join(others)} differ; {first} is used", "unset one of them")


def _present(variables: Any, env: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(variable for variable in variables if env.get(variable, "").strip())


def _key(variable: str, env: Mapping[str, str]) -> Entry:
    return {"name": variable.lower().replace("_", "-"), "value": env[variable]}


def _bedrock(env: Mapping[str, str]) -> tuple[Entry | None, tuple[str, str] | None]:
    pair = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    if len(_present(pair, env)) < 2:
        return None, _half(pair, env)
    meta = {
        "secret_access_key": env["AWS_SECRET_ACCESS_KEY"],
        "region": env.get("AWS_REGION"),
        "session_token": env.get("AWS_SESSION_TOKEN"),
        "arn": env.get("BEDROCK_ARN"),
    }
    return {"type": "bedrock", "keys": [_key(pair[0], env)], "meta": _given(meta)}, None


def _azure(env: Mapping[str, str]) -> tuple[Entry | None, tuple[str, str] | None]:
    pair = ("AZURE_OPENAI_API_KEY", "AZURE_OPENAI_ENDPOINT")
    if len(_present(pair, env)) < 2:
        return None, _half(pair, env)
    meta = {"endpoint": env["AZURE_OPENAI_ENDPOINT"], "api_version": env.get("AZURE_OPENAI_API_VERSION")}
    return {"type": "azure", "keys": [_key(pair[0], env)], "meta": _given(meta)}, None


def _vertex(env: Mapping[str, str]) -> tuple[Entry | None, tuple[str, str] | None]:
    credentials = _present(("VERTEX_AUTH_CREDENTIALS", "GOOGLE_APPLICATION_CREDENTIALS"), env)
    if not env.get("VERTEX_PROJECT_ID") or not credentials:
        present = _present(("VERTEX_PROJECT_ID",), env)
        return None, (present[0], "VERTEX_AUTH_CREDENTIALS") if present else None
    meta = {"project_id": env["VERTEX_PROJECT_ID"], "auth_credentials": env[credentials[0]]}
    return {"type": "vertex", "meta": meta}, None


def _half(pair: tuple[str, str], env: Mapping[str, str]) -> tuple[str, str] | None:
    present = _present(pair, env)
    return (present[0], pair[1] if present[0] == pair[0] else pair[0]) if present else None


def _given(values: Mapping[str, str | None]) -> Entry:
    return {name: value for name, value in values.items() if value}


def _warning(provider: str, message: str, hint: str = "") -> Issue:
    return Issue(f"providers.{provider}", message, hint, severity="warning")
