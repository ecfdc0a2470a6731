package verify

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cima-project/cima/hw/verify/match"
	"github.com/cima-project/cima/hw/verify/replay"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/canonical"
)

// readMounted reads where mounts lead that are not of the place that was asked for.
func (in *instance) readMounted(e *logs.Event) error {
	var body logs.MountedBody
	if err := canonical.Unmarshal(e.Body(), &body); err != nil {
		return fmt.Errorf("mounted event: %w", err)
	}
	if (len(body.Mounts) == 0) == (body.MountsSHA384 == nil) {
		return errors.New("mounted event: must have mounts or mounts_sha384, and not both")
	}
	in.places.Hidden = in.places.Hidden || body.MountsSHA384 != nil
	for _, m := range body.Mounts {
		in.places.Add(m.Destination, m.Place)
	}
	return nil
}

// maxPlaces is how many places a sentence names.
const maxPlaces = 5

// placesWords says which mounts lead elsewhere; "" where none does.
func placesWords(p match.Places) string {
	if p.Hidden {
		return "there are too many of them to be shown"
	}
	var words []string
	for destination, place := range p.Each() {
		if len(words) == maxPlaces {
			words = append(words, "…")
			break
		}
		words = append(words, replay.Clip(destination, 80)+" is "+replay.Clip(place, 80))
	}
	return strings.Join(words, ", ")
}
