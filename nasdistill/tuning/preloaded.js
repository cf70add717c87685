// Loaded into nni's manager before it starts.
const net = require('net');

const { NASDISTILL_PORTAL_HOST: host, NASDISTILL_PORTAL_PORT: port } = process.env;
const listen = net.Server.prototype.listen;
const setTimer = global.setTimeout;

// Its portal asks for no password, and listens on every interface by itself.
net.Server.prototype.listen = function (...given) {
  if (Number(given[0]) === Number(port) && typeof given[1] !== 'string') {
    given.splice(1, 0, host);
  }
  return listen.apply(this, given);
};

// It gives its tuner ten seconds to start, too few on a machine whose cores are all at work.
global.setTimeout = function (call, milliseconds, ...rest) {
  const patience = String(call).includes('Tuner did not connect') ? 12 : 1;
  return setTimer(call, patience * milliseconds, ...rest);
};
