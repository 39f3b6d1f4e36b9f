import greet
def test_x(): assert greet.main
