// The device plug-in has a module of its own: gRPC is no dependency of CIMA.
module github.com/cima-project/cima/packaging/kubernetes/plugin

go 1.27.0

replace github.com/cima-project/cima => ../../..

require (
	github.com/cima-project/cima v0.0.0-00010101000000-000000000000
	go.uber.org/goleak v1.3.0
	google.golang.org/grpc v1.85.0
	k8s.io/kubelet v0.37.2
)

require (
	golang.org/x/net v0.62.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.43.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20260817212433-ac3dfec99bb1 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)
