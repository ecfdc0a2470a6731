// Command sleeper is all that the test's images hold.
package main

import "time"

func main() { time.Sleep(10 * time.Minute) }
