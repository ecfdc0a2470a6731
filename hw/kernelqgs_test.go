package hw_test

import (
	"encoding/binary"
	"net"
	"sync"
	"time"

	"github.com/cima-project/cima/hw"
)

// serveQGS is the host's quoting service, until the test ends. answer makes the
// reply to a request, without its length.
func (k *kernel) serveQGS(answer func(conn net.Conn, report []byte) []byte) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		k.t.Fatal(err)
	}
	k.port = listener
	k.put("etc/tdx-attest.conf", []byte("# the host's QGS\nport = 4050\n"))
	var done sync.WaitGroup
	done.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			done.Go(func() {
				defer conn.Close()
				k.answerQGS(conn, answer)
			})
		}
	})
	k.t.Cleanup(func() {
		listener.Close()
		done.Wait()
	})
}

func (k *kernel) answerQGS(conn net.Conn, answer func(net.Conn, []byte) []byte) {
	conn.SetDeadline(time.Now().Add(time.Minute))
	request := make([]byte, 4+16+8+1024)
	for n := 0; n < len(request); {
		got, err := conn.Read(request[n:])
		if err != nil {
			return
		}
		n += got
	}
	le := binary.LittleEndian
	b := request[4:]
	if binary.BigEndian.Uint32(request) != 1048 || le.Uint16(b) != 1 || le.Uint32(b[4:]) != 0 || le.Uint32(b[8:]) != 1048 ||
		le.Uint32(b[12:]) != 0 || le.Uint32(b[16:]) != 1024 || le.Uint32(b[20:]) != 0 {
		k.t.Errorf("QGS request begins %x", request[:28])
	}
	message := answer(conn, b[24:])
	if message != nil {
		conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(message))), message...))
	}
}

// qgsAnswer is a GET_QUOTE_RESP.
func qgsAnswer(code uint32, id, quote []byte) []byte {
	le := binary.LittleEndian
	b := le.AppendUint16(nil, 1)
	b = le.AppendUint16(b, 0)
	b = le.AppendUint32(b, 1)
	b = le.AppendUint32(b, uint32(24+len(id)+len(quote)))
	b = le.AppendUint32(b, code)
	b = le.AppendUint32(b, uint32(len(id)))
	b = le.AppendUint32(b, uint32(len(quote)))
	return append(append(b, id...), quote...)
}

// quoteReport makes a quote from a TDREPORT, as QGS does.
func (k *kernel) quoteReport(report []byte) []byte {
	registers := hw.Registers{MRTD: hw.Digest(report[528:576])}
	for i := range registers.RTMR {
		registers.RTMR[i] = hw.Digest(report[720+48*i : 768+48*i])
	}
	quote, err := k.machine.Sign(registers, hw.ReportData(report[128:192]))
	if err != nil {
		k.t.Error(err)
	}
	return quote
}
