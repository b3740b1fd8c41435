"""The sandbox: where programs run that read what strangers made. Standard library only. See docs/sandbox.md."""

from shardmill.adapters.sandbox.find import UNSANDBOXED_OK, Sandbox, SandboxError, find_sandbox, likely_sandbox
from shardmill.adapters.sandbox.view import ending_signal, module_command

__all__ = [
    "UNSANDBOXED_OK",
    "Sandbox",
    "SandboxError",
    "ending_signal",
    "find_sandbox",
    "likely_sandbox",
    "module_command",
]
