// Extender extends its container's register over and over and prints the
// number of each extend that was acknowledged.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/cima-project/cima/rpc"
)

func main() {
	ctx := context.Background()
	for n := 0; ; n++ {
		c, err := rpc.Dialer{Wait: true}.Dial(ctx)
		if err != nil {
			continue
		}
		for ; ; n++ {
			once, cancel := context.WithTimeout(ctx, 3*time.Second)
			_, err := c.ExtendMeasurement(once, rpc.ExtendParams{Domain: "test.example", Operation: "count", Content: fmt.Sprint(n)})
			cancel()
			if err != nil {
				fmt.Fprintln(os.Stderr, n, err)
				break
			}
			fmt.Println(n)
		}
		c.Close()
	}
}
