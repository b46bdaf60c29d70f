"""The scripted side of Claude on Vertex; Gemini there is `GeminiWire`."""

from typing import Any

from heimdall_fleet.providers.scripted.answers import Asked
from heimdall_fleet.providers.scripted.anthropic import AnthropicWire, asked_of_claude

_PLAIN, _STREAM = ":rawPredict", ":streamRawPredict"


class VertexClaudeWire(AnthropicWire):
    def serves(self, path: str) -> bool:
        return path.endswith((_PLAIN, _STREAM))

    def asked(self, provider: str, path: str, body: dict[str, Any]) -> Asked:
        if not str(body["anthropic_version"]).startswith(("vertex-", "20")) or "model" in body:
            raise ValueError("anthropic_version belongs into the body and model into the path")
        model = path.rsplit("/", 1)[1].rsplit(":", 1)[0]
        return asked_of_claude(provider, model, body, stream=path.endswith(_STREAM))
