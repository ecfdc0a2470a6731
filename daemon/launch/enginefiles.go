package launch

import (
	"path"
	"slices"
	"strings"
)

// engineFiles are the files that an engine makes for each container: name in the
// container's own directory → where the engine mounts it. A file of another name, or at
// another place, was asked for.
var engineFiles = map[string]string{
	"hosts": "/etc/hosts", "hostname": "/etc/hostname", "resolv.conf": "/etc/resolv.conf",
	"mounts/shm": "/dev/shm", "shm": "/dev/shm", ".containerenv": "/run/.containerenv", "run/secrets": "/run/secrets",
	"passwd": "/etc/passwd", "group": "/etc/group", "localtime": "/etc/localtime",
}

// shared are those that a container has of the one whose network or IPC it joins.
var shared = []string{"hosts", "hostname", "resolv.conf", "mounts/shm", "shm"}

// Where engines keep the files of the container, or the pod's first one, whose id
// follows.
const podmanRuns = "/run/containers/storage"

var sandboxes = []string{
	"/var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes/", "/run/containerd/io.containerd.grpc.v1.cri/sandboxes/",
	"/var/lib/rancher/k3s/agent/containerd/io.containerd.grpc.v1.cri/sandboxes/", "/run/k3s/containerd/io.containerd.grpc.v1.cri/sandboxes/",
}

const kubeletPods = "/var/lib/kubelet/pods/"

// directories are those in which an engine keeps the files of a container with this id,
// all with a slash at the end. An id that users may choose has none.
func (n *normaliser) directories(id string) []string {
	if !IsID(id) {
		return nil
	}
	storage, driver := storageOf(n.c.Root.Path)
	docker := storage + "/containers/" + id + "/"
	userdata := "/" + driver + "-containers/" + id + "/userdata/"
	switch n.c.runtime {
	case "docker":
		return []string{docker}
	case "podman", "cri-o":
		return []string{storage + userdata, podmanRuns + userdata}
	case "": // a configuration alone
		return []string{docker, storage + userdata, podmanRuns + userdata}
	}
	return nil
}

// own are the directories that hold this container's files.
func (n *normaliser) own() []string {
	dirs := n.directories(n.id)
	for _, d := range n.known.Directories {
		dirs = append(dirs, path.Clean(d)+"/")
	}
	if sandbox := n.c.Sandbox(); IsID(sandbox) {
		dirs = append(dirs, n.directories(sandbox)...)
		for _, d := range sandboxes {
			dirs = append(dirs, d+sandbox+"/")
		}
	}
	return dirs
}

// source fills in what is mounted by a bind.
func (n *normaliser) source(m SpecMount, out *Mount) {
	source := path.Clean(string(m.Source))
	switch {
	case n.engineFile(source, out), n.podFile(source, out), n.volume(source, out):
	case m.Source == "":
	default:
		out.Source = withoutID(m.Source, n.id)
	}
}

// engineFile recognises what an engine made for this container alone, or for another
// one whose network or IPC namespace it joins.
func (n *normaliser) engineFile(source string, out *Mount) bool {
	at := path.Clean(string(out.Destination))
	for _, dir := range n.own() {
		name, ok := strings.CutPrefix(source, dir)
		switch secret, isSecret := strings.CutPrefix(name, "secrets/"); {
		case !ok:
		case engineFiles[name] == at && at != "":
			out.Engine = true
		case isSecret && secret != "" && !strings.Contains(secret, "/"):
			out.Secret = Text(secret)
		}
	}
	if out.Engine || out.Secret != "" {
		return true
	}
	for _, name := range shared {
		dir, ok := strings.CutSuffix(source, "/"+name)
		if !ok || engineFiles[name] != at {
			continue
		}
		id := path.Base(strings.TrimSuffix(dir, "/userdata"))
		if n.known.Shares != nil && slices.Contains(n.directories(id), dir+"/") && n.known.Shares(id) {
			out.Engine = true
		}
	}
	return out.Engine
}

// podFile recognises what the kubelet made for the container's pod.
func (n *normaliser) podFile(source string, out *Mount) bool {
	uid := n.c.Pod().UID
	name, ok := strings.CutPrefix(source, kubeletPods+uid+"/")
	if uid == "" || strings.Contains(uid, "/") || !ok {
		return false
	}
	parts := strings.Split(name, "/")
	switch {
	case name == "etc-hosts" && out.Destination == "/etc/hosts":
		out.Engine = true
	case len(parts) == 3 && parts[0] == "containers" && parts[1] == n.c.Pod().Container: // has a random name
		if out.Engine = out.Destination == "/dev/termination-log"; !out.Engine {
			out.Source = Text(kubeletPods + "{pod}/containers/" + parts[1] + "/{file}")
		}
	case parts[0] == "volumes" && (len(parts) == 3 || len(parts) == 4 && parts[3] == "mount"):
		volume := parts[2]
		if strings.HasPrefix(volume, "kube-api-access-") {
			volume = "kube-api-access" // the rest is random
		}
		out.Engine, out.Volume = true, Text(parts[1]+"/"+volume)
	default:
		out.Source = Text(kubeletPods + "{pod}/" + name)
	}
	return true
}

// volume recognises an engine's volume.
func (n *normaliser) volume(source string, out *Mount) bool {
	storage, _ := storageOf(n.c.Root.Path)
	name, ok := strings.CutPrefix(source, storage+"/volumes/")
	name, data := strings.CutSuffix(name, "/_data")
	if storage == "" || !ok || !data || name == "" || strings.Contains(name, "/") {
		return false
	}
	if n.known.Anonymous != nil && n.known.Anonymous(name) {
		out.Anonymous = true
	} else {
		out.Volume = Text(name)
	}
	return true
}

// StorageRoot finds the engine's storage from a container's root file system:
// /var/lib/docker/overlay2/…/merged, /var/lib/containers/storage/overlay/…/merged.
func StorageRoot(rootPath string) string {
	root, _ := storageOf(rootPath)
	return root
}

func storageOf(rootPath string) (root, driver string) {
	for _, driver := range []string{"overlay2", "overlay", "fuse-overlayfs", "vfs", "btrfs", "zfs", "rootfs"} {
		if root, _, ok := strings.Cut(rootPath, "/"+driver+"/"); ok && root != "" {
			return root, driver
		}
	}
	return "", "overlay"
}
