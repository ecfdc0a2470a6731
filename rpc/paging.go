package rpc

import (
	"context"
	"fmt"
	"iter"
)

// Events returns the records of the event log from p.Start on. It asks for them in
// pages of p.Count records (0: as many as a reply holds) as they are needed. An error
// comes with no record and is the last element.
func (c *Client) Events(ctx context.Context, p CCEventLogParams) iter.Seq2[EventRecord, error] {
	return func(yield func(EventRecord, error) bool) {
		for p := p; ; {
			page, err := c.GetCCEventLog(ctx, p)
			if err == nil && page.Next != 0 && page.Next <= p.Start {
				err = fmt.Errorf("%s: the page behind record %d begins at %d", MethodGetCCEventLog, p.Start, page.Next)
			}
			if err != nil {
				yield(EventRecord{}, err)
				return
			}
			for _, event := range page.Events {
				if !yield(event, nil) {
					return
				}
			}
			if page.Next == 0 {
				return
			}
			p.Start = page.Next
		}
	}
}
