// Loaded into nni's manager before it starts: its portal asks for no password and listens on every interface by itself.
const net = require('net');

const { NASDISTILL_PORTAL_HOST: host, NASDISTILL_PORTAL_PORT: port } = process.env;
const listen = net.Server.prototype.listen;

net.Server.prototype.listen = function (...given) {
  if (Number(given[0]) === Number(port) && typeof given[1] !== 'string') {
    given.splice(1, 0, host);
  }
  return listen.apply(this, given);
};
