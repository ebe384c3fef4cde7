// The rules that preset names stand for. Data. Invariant: reading alone where a tool only reads; no secret, no private range.

import type { NetworkPreset, NetworkRule } from "../api/network.ts";

const READING = ["GET", "HEAD"];
const hosts = (...names: string[]): NetworkRule[] => names.map((host) => ({ host }));
/** Debian's tools verify what they get by signatures, and ask over plain http. */
const plain = (...names: string[]): NetworkRule[] => names.map((host) => ({ host, ports: [80], tls: false, methods: READING }));

export const NETWORK_PRESET_RULES: Readonly<Record<NetworkPreset, readonly NetworkRule[]>> = {
  npm: hosts("registry.npmjs.org", "registry.yarnpkg.com"),
  pypi: hosts("pypi.org", "files.pythonhosted.org"),
  debian: [...plain("deb.debian.org", "security.debian.org"), ...hosts("deb.debian.org", "security.debian.org")],
  github: hosts("github.com", "api.github.com", "codeload.github.com", "*.githubusercontent.com"),
  llm: hosts(
    "api.anthropic.com",
    "api.openai.com",
    "generativelanguage.googleapis.com",
    "api.mistral.ai",
    "api.deepseek.com",
    "api.groq.com",
    "api.x.ai",
    "api.cohere.com",
    "openrouter.ai",
  ),
};
