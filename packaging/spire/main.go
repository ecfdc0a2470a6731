// Cima-spire has SPIRE's plug-ins for CIMA. SPIRE starts it with one word (plugin_args):
//
//	workload      WorkloadAttestor of spire-agent: selectors of the container that asks
//	node-agent    NodeAttestor of spire-agent: evidence of the node
//	node-server   NodeAttestor of spire-server: appraises it under a policy
//
// cima-spire(7) has the configuration, the selectors and what they prove.
package main

import (
	"fmt"
	"os"

	"github.com/spiffe/spire-plugin-sdk/pluginmain"
	agentnode "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/agent/nodeattestor/v1"
	agentworkload "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/agent/workloadattestor/v1"
	servernode "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/server/nodeattestor/v1"
	configv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/service/common/config/v1"

	"github.com/cima-project/cima/packaging/spire/node"
	"github.com/cima-project/cima/packaging/spire/workload"
)

var version = "unknown" // set by the linker

const usage = `usage: cima-spire workload | node-agent | node-server | --version
SPIRE starts it, by plugin_cmd and plugin_args; see cima-spire(7).`

func main() {
	word := ""
	if len(os.Args) == 2 {
		word = os.Args[1]
	}
	switch word {
	case "workload":
		p := workload.New()
		pluginmain.Serve(agentworkload.WorkloadAttestorPluginServer(p), configv1.ConfigServiceServer(p))
	case "node-agent":
		p := new(node.Agent)
		pluginmain.Serve(agentnode.NodeAttestorPluginServer(p), configv1.ConfigServiceServer(p))
	case "node-server":
		p := node.NewServer()
		pluginmain.Serve(servernode.NodeAttestorPluginServer(p), configv1.ConfigServiceServer(p))
	case "--version":
		fmt.Println("cima-spire", version)
	case "--help":
		fmt.Println(usage)
	default:
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
}
