"""The network plugin of policies, the last of its chain: a pod goes on when the agent of its node has its rules.

It fails where there is no agent: no pod runs without its rules. Only the standard library, and little of it.
"""

import json
import os
import socket
import sys

SOCKET = "/run/policies.sock"


def main() -> int:
    command = os.environ.get("CNI_COMMAND", "")
    if command == "VERSION":
        print(json.dumps({"cniVersion": "0.4.0", "supportedVersions": ["0.3.1", "0.4.0"]}))
        return 0
    config = json.load(sys.stdin)
    if command != "ADD":
        return 0
    words = dict(word.partition("=")[::2] for word in os.environ.get("CNI_ARGS", "").split(";"))
    result = config["prevResult"]
    told = {"uid": words.get("K8S_POD_UID", ""), "address": result["ips"][0]["address"].partition("/")[0]}
    try:
        with socket.socket(socket.AF_UNIX) as agent:
            agent.settimeout(10)
            agent.connect(SOCKET)
            agent.sendall(json.dumps(told).encode() + b"\n")
            answer = agent.makefile().readline().strip()
    except OSError as error:
        answer = str(error)
    if answer != "ready":
        print(json.dumps({"cniVersion": "0.4.0", "code": 11, "msg": f"policies of the pod are not there: {answer}"}))
        return 1
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
